"""What goes, in steps: whole rollouts first, their spans after them, then the room they took."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from agentlightning.v1.attempt_pb2 import Attempt, AttemptStatus
from agentlightning.v1.rollout_pb2 import Assignment, Rollout, RolloutConfig, RolloutStatus
from agentlightning.v1.span_pb2 import Span
from agentlightning.v1.store_service_pb2 import (
    AttemptRef,
    CompleteAttemptRequest,
    UpdateAttemptRequest,
    UpdateRolloutRequest,
)
from agentlightning_server.clock import SECOND
from agentlightning_server.errors import StoreError
from agentlightning_server.storage import attempts, deletions, rollouts, statistics, workers
from agentlightning_server.storage.database import Database
from agentlightning_server.storage.transaction import Reading, Transaction
from google.protobuf.field_mask_pb2 import FieldMask

DAY = 24 * 3600


def database_at(path: Path, clock: Any) -> Database:
    return Database(path, clock, lambda notices: None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def database(path: Path, clock: Any) -> AsyncIterator[Database]:
    async with database_at(path, clock) as database:
        yield database


def begin(tx: Transaction, worker_id: str = "", **fields: Any) -> Assignment:
    return rollouts.start(tx, Rollout(input_json="null", **fields), worker_id, None)


def end(tx: Transaction, *, spans: int = 0, size: int = 1, **fields: Any) -> Assignment:
    """A rollout that has succeeded with so many spans of so many bytes."""
    assignment = begin(tx, **fields)
    ids = {"rollout_id": assignment.rollout.rollout_id, "attempt_id": assignment.attempt.attempt_id}
    written = [
        Span(**ids, trace_id=f"{number:032x}", span_id=f"{number:016x}", name="x" * size) for number in range(spans)
    ]
    succeeded = CompleteAttemptRequest.Succeeded()
    attempts.complete(tx, CompleteAttemptRequest(**ids, succeeded=succeeded, spans=written))
    return assignment


def rows(table: str) -> Any:
    """An operation that counts the rows of a table."""
    return lambda tx: tx.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def known(tx: Reading) -> list[str]:
    return [row[0] for row in tx.connection.execute("SELECT rollout_id FROM rollouts ORDER BY id")]


def delete_all(tx: Transaction) -> int:
    return deletions.delete_ended(tx, "", None)


async def repeat(database: Database, step: Any) -> int:
    total = 0
    while done := await database.write(step):
        total += done
    return total


@pytest.mark.parametrize("table", ["rollouts", "attempts", "span_sequences"])
async def test_a_rollout_goes_whole_in_one_step(database: Database, table: str) -> None:
    await database.write(lambda tx: end(tx, spans=3))
    assert await database.write(delete_all) == 1
    assert await database.read(rows(table)) == 0


async def test_a_step_deletes_so_many_rollouts_and_those_first_that_ended_first(
    database: Database, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletions, "ROLLOUTS", 2)
    ids = []
    for _ in range(5):
        clock.advance(1)
        ids.append((await database.write(end)).rollout.rollout_id)
    assert await database.write(delete_all) == 2
    assert await database.read(known) == ids[2:]


async def test_a_step_deletes_no_more_rollouts_than_have_so_many_attempts(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletions, "ATTEMPTS", 4)

    def begin_thrice_and_cancel(tx: Transaction) -> str:
        rollout_id = begin(tx).rollout.rollout_id
        for _ in range(2):
            attempts.start(tx, rollout_id, "", None)
        attempts.cancel(tx, rollout_id)
        return rollout_id

    ids = [await database.write(begin_thrice_and_cancel) for _ in range(3)]
    assert await database.write(delete_all) == 2
    answer = await database.write(lambda tx: deletions.delete_named(tx, ["ro-unknown", *ids], "", None))
    assert (answer.deleted_count, list(answer.unknown_rollout_ids)) == (1, ["ro-unknown", *ids[:2]])


async def test_named_ones_are_deleted_so_many_a_step_in_the_order_of_their_names(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletions, "ROLLOUTS", 2)
    ids = [(await database.write(end)).rollout.rollout_id for _ in range(3)]
    answer = await database.write(lambda tx: deletions.delete_named(tx, list(reversed(ids)), "", None))
    assert answer.deleted_count == 2
    assert await database.read(known) == ids[:1]


async def test_spans_follow_so_many_a_step(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletions, "SPANS", 4)
    for _ in range(3):
        await database.write(lambda tx: end(tx, spans=3))
    await database.write(delete_all)
    left = []
    while await database.write(deletions.delete_spans):
        left.append(await database.read(rows("spans")))
    assert left == [5, 1, 0]


async def test_what_a_kill_leaves_of_a_deletion_is_deleted_by_the_next_server(path: Path, clock: Any) -> None:
    async with database_at(path, clock) as database:
        await database.write(lambda tx: end(tx, spans=3))
        await database.write(delete_all)
    async with database_at(path, clock) as database:
        assert await database.read(rows("spans")) == 3
        await repeat(database, deletions.delete_spans)
        assert await database.read(rows("spans")) == 0


async def test_the_spans_of_others_stay(database: Database) -> None:
    gone = await database.write(lambda tx: end(tx, spans=3))
    await database.write(lambda tx: end(tx, spans=2))
    await database.write(lambda tx: deletions.delete_named(tx, [gone.rollout.rollout_id], "", None))
    await repeat(database, deletions.delete_spans)
    assert await database.read(rows("spans")) == 2


async def test_what_is_counted_is_what_is_there(database: Database) -> None:
    await database.write(lambda tx: end(tx, spans=3, queue="other"))
    await database.write(lambda tx: end(tx, spans=2))
    await database.write(lambda tx: deletions.delete_ended(tx, "", None))
    await repeat(database, deletions.delete_spans)
    await database.write(lambda tx: end(tx, spans=4))
    counts = await database.read(statistics.count)
    assert (counts.attempt_count, counts.span_count) == (1, 4)
    assert [queue.queue for queue in counts.queues] == ["default"]


async def test_a_rollout_that_was_reopened_in_time_stays(database: Database) -> None:
    rollout = (await database.write(end)).rollout
    await database.write(
        lambda tx: rollouts.update(
            tx,
            UpdateRolloutRequest(
                rollout=Rollout(rollout_id=rollout.rollout_id, status=RolloutStatus.ROLLOUT_STATUS_REQUEUING),
                update_mask=FieldMask(paths=["status"]),
            ),
        )
    )
    assert await database.write(delete_all) == 0
    assert await database.read(known) == [rollout.rollout_id]


async def test_a_deleted_rollout_cannot_be_reopened(database: Database) -> None:
    rollout = (await database.write(lambda tx: end(tx, spans=3))).rollout
    await database.write(delete_all)
    with pytest.raises(StoreError, match="not found"):
        await database.write(lambda tx: attempts.start(tx, rollout.rollout_id, "", None))


async def test_a_tombstone_says_what_was_deleted_and_when(database: Database, clock: Any) -> None:
    gone = (await database.write(lambda tx: end(tx, run_id="run-1", queue="q"))).rollout
    before = await database.read(lambda tx: tx.revision())
    await database.write(delete_all)
    [row] = await database.read(lambda tx: tx.connection.execute("SELECT * FROM tombstones").fetchall())
    assert tuple(row) == (before + 1, gone.rollout_id, "run-1", "q", clock())


async def test_tombstones_are_forgotten_after_a_day_and_from_where_on_is_remembered(
    database: Database, clock: Any
) -> None:
    def forgotten(tx: Reading) -> int:
        return int(tx.connection.execute("SELECT forgotten_revision FROM store").fetchone()[0])

    await database.write(end)
    await database.write(delete_all)
    old = await database.read(lambda tx: tx.revision())
    clock.advance(DAY - 1)
    await database.write(end)
    await database.write(delete_all)
    assert await database.write(deletions.forget_tombstones) == 0
    clock.advance(1)
    assert await database.write(deletions.forget_tombstones) == 1
    assert await database.read(forgotten) == old
    assert await database.read(rows("tombstones")) == 1


async def test_a_worker_of_whom_nothing_is_heard_goes_with_a_tombstone(database: Database, clock: Any) -> None:
    await database.write(lambda tx: workers.heartbeat(tx, "silent", ""))
    await database.write(lambda tx: workers.heartbeat(tx, "heard of", ""))
    await database.write(lambda tx: begin(tx, worker_id="busy"))
    clock.advance(DAY)
    await database.write(lambda tx: workers.heartbeat(tx, "heard of", ""))
    assert await database.write(lambda tx: deletions.delete_workers(tx, DAY * SECOND)) == 1
    with pytest.raises(StoreError):
        await database.read(lambda tx: workers.get(tx, "silent"))
    assert await database.read(lambda tx: workers.get(tx, "busy").current_attempt_id)
    assert await database.read(lambda tx: tx.connection.execute("SELECT id FROM tombstones").fetchone()[0]) == "silent"


async def test_the_worker_of_an_attempt_that_outlives_its_rollout_is_free_afterwards(database: Database) -> None:
    assignment = await database.write(lambda tx: begin(tx, worker_id="late", config=RolloutConfig(max_redeliveries=0)))
    ids = {"rollout_id": assignment.rollout.rollout_id, "attempt_id": assignment.attempt.attempt_id}

    def set_status(tx: Transaction, status: "AttemptStatus.ValueType") -> None:
        attempt = Attempt(**ids, status=status)
        attempts.update(tx, UpdateAttemptRequest(attempt=attempt, update_mask=FieldMask(paths=["status"])))

    await database.write(lambda tx: set_status(tx, AttemptStatus.ATTEMPT_STATUS_UNRESPONSIVE))
    await database.write(lambda tx: set_status(tx, AttemptStatus.ATTEMPT_STATUS_RUNNING))
    assert await database.read(lambda tx: workers.get(tx, "late").current_attempt_id) == ids["attempt_id"]
    assert await database.write(delete_all) == 1
    assert await database.read(lambda tx: workers.get(tx, "late").current_attempt_id) == ""
    assert not (await database.write(lambda tx: attempts.heartbeat(tx, AttemptRef(**ids)))).held


async def test_the_room_of_what_was_deleted_goes_back_to_the_file_system_so_many_pages_a_step(
    path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletions, "PAGES", 100)
    await database.shrink()
    before = path.stat().st_size
    await database.write(lambda tx: end(tx, spans=200, size=10_000))
    await database.shrink()
    assert path.stat().st_size > before + 2_000_000
    await database.write(delete_all)
    await repeat(database, deletions.delete_spans)
    assert await database.write(deletions.free_pages) == 100
    await repeat(database, deletions.free_pages)
    await database.shrink()
    assert path.stat().st_size < before + 50_000
    assert await database.read(lambda tx: tx.connection.execute("PRAGMA integrity_check").fetchone()[0]) == "ok"


async def test_where_nothing_is_free_nothing_is_given_back(database: Database) -> None:
    assert await database.write(deletions.free_pages) == 0
