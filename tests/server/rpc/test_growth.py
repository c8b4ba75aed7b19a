"""DeleteRollouts and BackupDatabase over a real socket: what goes, what stays, and what it leaves behind."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.rollout_pb2 import Rollout, RolloutStatus
from agentlightning.v1.span_pb2 import Span
from agentlightning_server.app import running
from agentlightning_server.config import Config, Keep
from agentlightning_server.dispatch.dispatcher import Dispatcher
from agentlightning_server.storage import attempts, deletions, rollouts
from agentlightning_server.storage.transaction import Transaction
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

SUCCEEDED = pb.CompleteAttemptRequest.Succeeded()
HOUR = 3600


def reason(error: grpc.aio.AioRpcError) -> str:
    [raw] = [value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(raw).details[0].Unpack(info)
    return info.reason


def ref(assignment: Any) -> dict[str, str]:
    return {"rollout_id": assignment.attempt.rollout_id, "attempt_id": assignment.attempt.attempt_id}


def spans(assignment: Any, count: int, size: int = 1) -> list[Span]:
    return [
        Span(**ref(assignment), trace_id=f"{number:032x}", span_id=f"{number:016x}", name="x" * size)
        for number in range(count)
    ]


async def begin(server: Any, **fields: Any) -> Any:
    rollout = Rollout(input_json="null", **fields)
    return (await server.stub.StartRollout(pb.StartRolloutRequest(rollout=rollout))).assignment


async def end(server: Any, count: int = 0, size: int = 1, **fields: Any) -> Any:
    """An assignment that was completed with so many spans."""
    assignment = await begin(server, **fields)
    await server.stub.CompleteAttempt(
        pb.CompleteAttemptRequest(**ref(assignment), succeeded=SUCCEEDED, spans=spans(assignment, count, size))
    )
    return assignment


async def delete(server: Any, **which: Any) -> pb.DeleteRolloutsResponse:
    return await server.stub.DeleteRollouts(pb.DeleteRolloutsRequest(**which))


async def known(server: Any) -> list[str]:
    return [rollout.rollout_id for rollout in (await server.stub.ListRollouts(pb.ListRolloutsRequest())).rollouts]


async def test_a_deletion_that_does_not_say_which_is_refused(server: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await delete(server)
    assert reason(refusal.value) == "FIELD_INVALID"


async def test_a_negative_age_is_refused(server: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await delete(server, ended_for=Duration(seconds=-1))
    assert reason(refusal.value) == "FIELD_INVALID"


async def test_of_each_that_was_named_the_answer_says_what_became_of_it(server: Any) -> None:
    ended, live = await end(server), await begin(server)
    answer = await delete(server, rollout_ids=[ended.rollout.rollout_id, live.rollout.rollout_id, "ro-unknown"])
    assert answer.deleted_count == 1
    assert list(answer.kept_rollout_ids) == [live.rollout.rollout_id]
    assert list(answer.unknown_rollout_ids) == ["ro-unknown"]
    assert await known(server) == [live.rollout.rollout_id]


async def test_one_that_is_named_twice_is_deleted_once(server: Any) -> None:
    ended = await end(server)
    answer = await delete(server, rollout_ids=[ended.rollout.rollout_id] * 2)
    assert answer == pb.DeleteRolloutsResponse(deleted_count=1)


async def test_more_than_a_step_takes_are_deleted_in_one_call(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletions, "ROLLOUTS", 2)
    ids = [(await end(server)).rollout.rollout_id for _ in range(5)]
    assert (await delete(server, rollout_ids=ids)).deleted_count == 5


async def test_a_run_goes_and_its_rollouts_at_work_stay(server: Any) -> None:
    other = await end(server, run_id="run-other")
    await end(server, run_id="run-1")
    live = await begin(server, run_id="run-1")
    assert (await delete(server, run_id="run-1")).deleted_count == 1
    assert await known(server) == [other.rollout.rollout_id, live.rollout.rollout_id]


async def test_those_that_ended_long_enough_ago_go(server: Any) -> None:
    await end(server)
    server.clock.advance(HOUR - 1)
    young = await end(server)
    server.clock.advance(1)
    assert (await delete(server, ended_for=Duration(seconds=HOUR))).deleted_count == 1
    assert await known(server) == [young.rollout.rollout_id]


async def test_no_age_at_all_is_an_age(server: Any) -> None:
    await end(server)
    assert (await delete(server, ended_for=Duration())).deleted_count == 1


async def test_what_is_given_must_all_hold(server: Any) -> None:
    of_another_run = await end(server, run_id="run-2")
    both = await end(server, run_id="run-1")
    server.clock.advance(HOUR)
    too_young = await end(server, run_id="run-1")
    ids = [assignment.rollout.rollout_id for assignment in (of_another_run, both, too_young)]
    answer = await delete(server, rollout_ids=ids, run_id="run-1", ended_for=Duration(seconds=HOUR))
    assert (answer.deleted_count, list(answer.kept_rollout_ids)) == (1, [ids[0], ids[2]])
    await delete(server, run_id="run-2", ended_for=Duration(seconds=HOUR))
    assert await known(server) == [ids[2]]


async def test_attempts_and_spans_go_with_their_rollout(server: Any) -> None:
    gone = (await end(server, count=3)).rollout.rollout_id
    await delete(server, rollout_ids=[gone])
    assert not (await server.stub.ListAttempts(pb.ListAttemptsRequest(rollout_id=gone))).attempts
    assert not (await server.stub.ListSpans(pb.ListSpansRequest(rollout_id=gone))).spans


async def test_spans_that_are_still_to_go_are_seen_by_nobody(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletions, "delete_spans", lambda tx: 0)
    gone = (await end(server, count=3)).rollout.rollout_id
    await delete(server, rollout_ids=[gone])
    assert not (await server.stub.ListSpans(pb.ListSpansRequest(rollout_id=gone))).spans


async def test_a_span_that_comes_after_is_rejected(server: Any) -> None:
    gone = await end(server)
    await delete(server, rollout_ids=[gone.rollout.rollout_id])
    [result] = (await server.stub.AddSpans(pb.AddSpansRequest(spans=spans(gone, 1)))).results
    assert result.error_reason == "ROLLOUT_NOT_FOUND"


async def test_a_claim_repeated_after_the_deletion_gives_nothing_and_claims_nothing(server: Any) -> None:
    await server.enqueue("1")
    claim = pb.DequeueRolloutsRequest(request_id="claim")
    [claimed] = (await server.stub.DequeueRollouts(claim)).assignments
    await server.stub.CompleteAttempt(pb.CompleteAttemptRequest(**ref(claimed), succeeded=SUCCEEDED))
    await delete(server, rollout_ids=[claimed.rollout.rollout_id])
    await server.enqueue("2")
    assert not (await server.stub.DequeueRollouts(claim)).assignments


async def test_whoever_waits_for_one_that_ends_and_goes_at_once_is_told_that_it_is_unknown(
    tmp_path: Any, clock: Any
) -> None:
    async with Dispatcher.running(tmp_path / "store.db", clock, Keep()) as dispatcher:
        [rollout] = await dispatcher.write(lambda tx: rollouts.enqueue(tx, [Rollout(input_json="null")]))
        ids = [rollout.rollout_id]
        messages = dispatcher.wait(ids, any_of=False, after_revision=0, wait_seconds=20)
        assert (await anext(messages)).pending_count == 1

        def cancel_and_delete(tx: Transaction) -> None:
            attempts.cancel(tx, rollout.rollout_id)
            deletions.delete_named(tx, ids, "", None)

        await dispatcher.write(cancel_and_delete)
        [message] = [message async for message in messages]
    assert (list(message.unknown_rollout_ids), message.pending_count) == (ids, 0)


async def test_after_a_deletion_the_store_counts_and_weighs_what_it_did_before(server: Any) -> None:
    async def statistics() -> pb.GetStatisticsResponse:
        answer = await server.stub.GetStatistics(pb.GetStatisticsRequest())
        answer.ClearField("revision")
        answer.ClearField("rates")
        return answer

    await begin(server)
    before = await statistics()
    for _ in range(20):
        await end(server, count=50, size=2000, run_id="run-1", queue="q")
    full = await statistics()
    assert full.database_bytes > before.database_bytes + 2_000_000
    await delete(server, run_id="run-1")
    after = await statistics()
    assert after.database_bytes < before.database_bytes + 20_000
    before.ClearField("database_bytes")
    after.ClearField("database_bytes")
    assert after == before


async def test_what_is_beyond_what_is_kept_goes_in_the_background(start: Any, clock: Any) -> None:
    server = await start()
    await end(server, count=3)
    live = await begin(server)
    clock.advance(HOUR)
    server = await start(keep=Keep(time=timedelta(hours=1)))
    async with asyncio.timeout(20):
        while await known(server) != [live.rollout.rollout_id]:
            pass


async def test_the_server_says_that_it_can(server: Any) -> None:
    capabilities = (await server.stub.GetServerInfo(pb.GetServerInfoRequest())).capabilities
    assert capabilities.delete_rollouts and capabilities.backup_database


@pytest.mark.parametrize("name", ["../up.db", "/tmp/there.db", "a\\b.db", "..", ".", ".hidden", "a\nb", "x" * 201])
async def test_a_name_that_is_no_file_name_is_refused(server: Any, name: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await server.stub.BackupDatabase(pb.BackupDatabaseRequest(file_name=name))
    assert reason(refusal.value) == "FIELD_INVALID"
    assert "file_name" in (refusal.value.details() or "")


async def test_a_copy_made_under_writes_has_what_was_acknowledged_before_and_can_be_served(
    server: Any, clock: Any
) -> None:
    enough = asyncio.Event()
    acknowledged: list[str] = []

    async def write() -> None:
        while not enough.is_set():
            acknowledged.append((await end(server, count=2)).rollout.rollout_id)

    writers = [asyncio.create_task(write()) for _ in range(4)]
    while len(acknowledged) < 20:
        acknowledged.append((await end(server, count=2)).rollout.rollout_id)
    before = set(acknowledged)
    answer = await server.stub.BackupDatabase(pb.BackupDatabaseRequest(file_name="monday.db"))
    enough.set()
    await asyncio.gather(*writers)
    assert answer.size_bytes > 0
    async with (
        running(Config(database=Path(answer.path), port=0, grace=0.5), clock) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        copy = type(server)(type(server.stub)(channel), address, clock)
        for rollout_id in before:
            assert (await copy.get(rollout_id)).status == RolloutStatus.ROLLOUT_STATUS_SUCCEEDED
            assert len((await copy.stub.ListSpans(pb.ListSpansRequest(rollout_id=rollout_id))).spans) == 2
