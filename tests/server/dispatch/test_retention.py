"""What is kept and what goes in the background: by age and by run, in steps, whatever fails on the way."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from agentlightning.v1.rollout_pb2 import Rollout
from agentlightning.v1.run_pb2 import Run, RunStatus
from agentlightning.v1.store_service_pb2 import DeleteRolloutsRequest, UpdateRunRequest
from agentlightning_server.config import Keep
from agentlightning_server.dispatch import retention
from agentlightning_server.dispatch.dispatcher import Dispatcher
from agentlightning_server.dispatch.retention import Retention
from agentlightning_server.errors import unavailable
from agentlightning_server.storage import attempts, deletions, requests, rollouts, runs, workers
from agentlightning_server.storage.transaction import Reading
from google.protobuf.field_mask_pb2 import FieldMask

BOUND = 20
HOUR = 3600
DAY = 24 * HOUR


class Store:
    """A dispatcher on the test's file and clock."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        self.retention = dispatcher.retention

    async def end(self, run_id: str = "") -> str:
        """The id of a rollout that is cancelled."""
        rollout_id = await self.begin(run_id)
        await self.dispatcher.write(lambda tx: attempts.cancel(tx, rollout_id))
        return rollout_id

    async def begin(self, run_id: str = "") -> str:
        new = [Rollout(input_json="null", run_id=run_id)]
        return (await self.dispatcher.write(lambda tx: rollouts.enqueue(tx, new)))[0].rollout_id

    async def run(self, status: "RunStatus.ValueType") -> str:
        run = await self.dispatcher.write(lambda tx: runs.create(tx, Run()))
        run.status = status
        if status != RunStatus.RUN_STATUS_RUNNING:
            request = UpdateRunRequest(run=run, update_mask=FieldMask(paths=["status"]))
            await self.dispatcher.write(lambda tx: runs.update(tx, request))
        return run.run_id

    async def known(self) -> list[str]:
        def ids(tx: Reading) -> list[str]:
            return [row[0] for row in tx.connection.execute("SELECT rollout_id FROM rollouts ORDER BY id")]

        return await self.dispatcher.read(ids)


@pytest.fixture
async def opened(tmp_path: Path, clock: Any) -> Any:
    """Opens a store that keeps what it is told to keep."""

    @asynccontextmanager
    async def opened(keep: Keep) -> AsyncIterator[Store]:
        async with Dispatcher.running(tmp_path / "store.db", clock, keep) as dispatcher:
            yield Store(dispatcher)

    return opened


async def test_unless_told_otherwise_everything_is_kept(opened: Any, clock: Any) -> None:
    async with opened(Keep()) as store:
        rollout_id = await store.end(await store.run(RunStatus.RUN_STATUS_SUCCEEDED))
        await store.dispatcher.write(lambda tx: workers.heartbeat(tx, "worker", ""))
        clock.advance(10_000 * DAY)
        await store.retention.sweep()
        assert await store.known() == [rollout_id]
        assert await store.dispatcher.read(lambda tx: workers.get(tx, "worker"))


async def test_rollouts_go_so_long_after_their_end(opened: Any, clock: Any) -> None:
    async with opened(Keep(time=timedelta(days=2))) as store:
        await store.end()
        waiting = await store.begin()
        clock.advance(2 * DAY - 1)
        young = await store.end()
        clock.advance(1)
        await store.retention.sweep()
        assert await store.known() == [waiting, young]


async def test_workers_go_so_long_after_they_were_heard_of(opened: Any, clock: Any) -> None:
    async with opened(Keep(time=timedelta(days=2))) as store:
        await store.dispatcher.write(lambda tx: workers.heartbeat(tx, "worker", ""))
        clock.advance(2 * DAY)
        await store.retention.sweep()
        assert await store.dispatcher.read(lambda tx: tx.one("worker", worker_id="worker")) is None


async def test_the_rollouts_of_ended_runs_go_but_those_of_the_last_runs(opened: Any) -> None:
    async with opened(Keep(runs=2)) as store:
        ended, running = RunStatus.RUN_STATUS_FAILED, RunStatus.RUN_STATUS_RUNNING
        run_ids = [await store.run(status) for status in (ended, running, ended, ended, ended)]
        of_no_run, *of_runs = [await store.end(run_id) for run_id in ["", *run_ids]]
        waiting = await store.begin(run_ids[0])
        await store.retention.sweep()
        assert await store.known() == [of_no_run, of_runs[1], *of_runs[3:], waiting]


async def test_with_fewer_runs_than_are_kept_all_stay(opened: Any) -> None:
    async with opened(Keep(runs=2)) as store:
        rollout_id = await store.end(await store.run(RunStatus.RUN_STATUS_SUCCEEDED))
        await store.retention.sweep()
        assert await store.known() == [rollout_id]


async def test_answers_to_requests_go_after_a_day(opened: Any, clock: Any) -> None:
    async with opened(Keep()) as store:
        for number in range(250):
            await store.dispatcher.write(lambda tx, number=number: requests.remember(tx, str(number), Run(), Run()))
        clock.advance(DAY)
        await store.retention.sweep()
        left = "SELECT count(*) FROM requests"
        assert await store.dispatcher.read(lambda tx: tx.connection.execute(left).fetchone()[0]) == 0


async def test_what_was_deleted_leaves_one_line(opened: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=retention.__name__)
    async with opened(Keep(runs=0)) as store:
        await store.end(await store.run(RunStatus.RUN_STATUS_SUCCEEDED))
        await store.retention.sweep()
        await store.retention.sweep()
    assert [record.getMessage().partition(" that")[0] for record in caplog.records] == [
        "deleted 1 rollouts and 0 workers"
    ]


async def test_others_write_between_the_steps(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletions, "ROLLOUTS", 1)
    async with opened(Keep(time=timedelta(0))) as store:
        for _ in range(20):
            await store.end()
        sweeping = asyncio.create_task(store.retention.sweep())
        new = [await store.begin() for _ in range(3)]
        assert not sweeping.done()
        await sweeping
        assert await store.known() == new


async def test_when_its_caller_goes_away_a_deletion_goes_no_further(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletions, "ROLLOUTS", 1)
    async with opened(Keep()) as store:
        ids = [await store.end() for _ in range(20)]
        deleting = asyncio.create_task(store.dispatcher.delete(DeleteRolloutsRequest(rollout_ids=ids)))
        await store.begin()
        deleting.cancel()
        await asyncio.wait([deleting])
        left = await store.known()
        assert len(left) > 10
        await store.retention.sweep()
        assert await store.known() == left


async def test_a_start_sweeps_and_what_fails_is_tried_again(
    opened: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    swept, failures = asyncio.Event(), [unavailable("the disk is full"), ZeroDivisionError("a bug")]

    async def sweep(self: Retention) -> None:
        if failures:
            raise failures.pop()
        swept.set()

    monkeypatch.setattr(Retention, "sweep", sweep)
    monkeypatch.setattr(retention, "_SHORTEST_INTERVAL", timedelta(0))
    async with opened(Keep(time=timedelta(0))), asyncio.timeout(BOUND):
        await swept.wait()
    assert "the disk is full" in caplog.text
