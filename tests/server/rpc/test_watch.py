"""Watch over a real socket: the latest state of what is asked for, in messages that any client takes."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.attempt_pb2 import Failure, FailureKind
from agentlightning.v1.resources_pb2 import Resource, Resources
from agentlightning.v1.rollout_pb2 import RetryPolicy, RolloutConfig
from agentlightning.v1.run_pb2 import Run
from agentlightning_server.config import Keep
from agentlightning_server.dispatch import dispatcher
from agentlightning_server.dispatch.watches import Watches
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

LARGE = '"' + "x" * (900 << 10) + '"'
MESSAGE_BYTES = 2 << 20
BOUND = 20


def watch(server: Any, after_revision: int = 0, **filters: str) -> Any:
    return server.stub.Watch(pb.WatchRequest(after_revision=after_revision, **filters), timeout=BOUND)


async def revision_of(server: Any) -> int:
    return int((await server.stub.GetStatistics(pb.GetStatisticsRequest())).revision)


async def cancel(server: Any, *rollout_ids: str) -> None:
    await server.stub.CancelRollouts(pb.CancelRolloutsRequest(rollout_ids=rollout_ids))


def kinds(message: pb.WatchResponse) -> list[str]:
    return [change.WhichOneof("object") for change in message.changes]


def rollouts_in(message: pb.WatchResponse) -> list[str]:
    return [change.rollout.rollout_id for change in message.changes]


def error_info(error: grpc.aio.AioRpcError) -> Any:
    [raw] = [value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(raw).details[0].Unpack(info)
    return info


async def one_of_each(server: Any) -> str:
    """A rollout that is held, resources, a run and a worker, of one run and one queue; says the run."""
    run = (await server.stub.CreateRun(pb.CreateRunRequest(run=Run(queue="q")))).run
    bundle = Resources(run_id=run.run_id, resources=[Resource(name="x", custom_json="1")])
    await server.stub.AddResources(pb.AddResourcesRequest(resources=bundle))
    await server.enqueue(queue="q", run_id=run.run_id)
    await server.dequeue(queue="q", worker_id="w")
    return str(run.run_id)


async def test_a_watch_of_an_empty_store_says_at_once_that_it_is_there(server: Any) -> None:
    message = await watch(server).read()
    assert (list(message.changes), message.revision) == ([], 0)


async def test_everything_that_is_there_is_sent_and_then_what_changes(server: Any) -> None:
    await one_of_each(server)
    call = watch(server)
    first = await call.read()
    assert sorted(kinds(first)) == ["resources", "rollout", "run", "worker"]
    assert first.revision == await revision_of(server)
    [later] = await server.enqueue()
    second = await call.read()
    assert [change.rollout for change in second.changes] == [later]
    assert second.revision == second.changes[0].revision == later.revision


async def test_a_rollout_comes_with_its_latest_attempt(server: Any) -> None:
    await server.enqueue()
    assignment = await server.dequeue()
    [change] = (await watch(server).read()).changes
    assert change.rollout.latest_attempt == assignment.attempt


async def test_changes_come_in_the_order_of_their_revisions(server: Any) -> None:
    first, second = await server.enqueue("1", "2")
    await cancel(server, first.rollout_id)
    message = await watch(server).read()
    revisions = [change.revision for change in message.changes]
    assert rollouts_in(message) == [second.rollout_id, first.rollout_id]
    assert revisions == sorted(revisions)


async def test_a_watch_goes_on_after_the_revision_it_is_given(server: Any) -> None:
    await server.enqueue()
    message = await watch(server).read()
    [later] = await server.enqueue()
    assert rollouts_in(await watch(server, message.revision).read()) == [later.rollout_id]


async def test_the_end_of_a_back_off_is_a_change(server: Any) -> None:
    pause = RetryPolicy(kind=FailureKind.FAILURE_KIND_AGENT, initial_backoff=Duration(seconds=5))
    await server.enqueue(config=RolloutConfig(max_attempts=2, retry_policies=[pause]))
    attempt = (await server.dequeue()).attempt
    names = {"rollout_id": attempt.rollout_id, "attempt_id": attempt.attempt_id}
    await server.stub.CompleteAttempt(pb.CompleteAttemptRequest(**names, failure=Failure()))
    call = watch(server)
    assert (await call.read()).changes[0].rollout.HasField("available_time")
    server.clock.advance(5)
    await revision_of(server)  # has the store look at its clock
    [change] = (await call.read()).changes
    assert not change.rollout.HasField("available_time")


async def test_of_a_run_come_the_run_its_rollouts_and_its_resources(server: Any) -> None:
    run_id = await one_of_each(server)
    await one_of_each(server)
    message = await watch(server, run_id=run_id).read()
    assert sorted(kinds(message)) == ["resources", "rollout", "run"]
    objects = [getattr(change, kind) for change, kind in zip(message.changes, kinds(message), strict=True)]
    assert {found.run_id for found in objects} == {run_id}


async def test_of_a_queue_come_its_rollouts_and_its_runs(server: Any) -> None:
    await one_of_each(server)
    await server.enqueue()
    message = await watch(server, queue="q").read()
    assert sorted(kinds(message)) == ["rollout", "run"]


async def test_a_filtered_watch_says_now_and_then_how_far_it_has_come(server: Any) -> None:
    """So that one who resumes it does not begin too far back."""
    call = watch(server, queue="quiet")
    await call.read()
    await server.enqueue(*["1"] * 1000)
    message = await call.read()
    assert (kinds(message), message.revision) == ([], await revision_of(server))


async def test_a_message_stays_small_and_says_how_far_it_went(server: Any) -> None:
    ids = [(await server.enqueue(LARGE))[0].rollout_id for _ in range(5)]
    call = watch(server)
    messages = [await call.read() for _ in range(3)]
    assert list(map(rollouts_in, messages)) == [ids[:2], ids[2:4], ids[4:]]
    assert all(message.ByteSize() <= MESSAGE_BYTES for message in messages)
    for number, message in enumerate(messages[:2], start=1):
        assert rollouts_in(await watch(server, message.revision).read()) == ids[2 * number :][:2]


async def test_an_object_too_large_for_a_message_goes_alone(server: Any) -> None:
    [small] = await server.enqueue()
    [large] = await server.enqueue('"' + "x" * (3 << 20) + '"')
    call = watch(server)
    assert [rollouts_in(await call.read()) for _ in range(2)] == [[small.rollout_id], [large.rollout_id]]


async def test_a_revision_that_is_not_reached_is_refused(server: Any) -> None:
    await server.enqueue()
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await watch(server, 9).read()
    info = error_info(refusal.value)
    assert refusal.value.code() is grpc.StatusCode.OUT_OF_RANGE
    assert info.reason == "REVISION_OUT_OF_RANGE"
    assert dict(info.metadata) == {"after_revision": "9", "oldest_revision": "0", "revision": "1"}


async def test_a_revision_below_nothing_is_refused_by_name(server: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await watch(server, -1).read()
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error_info(refusal.value).metadata["field"] == "after_revision"


async def test_what_was_deleted_is_named_by_its_kind(start: Any, clock: Any) -> None:
    server = await start()
    [rollout] = await server.enqueue()
    await cancel(server, rollout.rollout_id)
    await server.stub.UpdateWorker(pb.UpdateWorkerRequest(worker_id="w"))
    revision = await revision_of(server)
    clock.advance(3600)
    server = await start(keep=Keep(time=timedelta(hours=1)))
    gone: list[pb.WatchResponse.Tombstone] = []
    async for message in watch(server, revision):
        gone += [change.deleted for change in message.changes]
        if len(gone) == 2:
            break
    Tombstone = pb.WatchResponse.Tombstone
    assert Tombstone(rollout_id=rollout.rollout_id) in gone and Tombstone(worker_id="w") in gone


async def test_the_server_says_that_it_serves_watches(server: Any) -> None:
    assert (await server.stub.GetServerInfo(pb.GetServerInfoRequest())).capabilities.watch


async def test_who_hangs_up_is_forgotten(monkeypatch: pytest.MonkeyPatch, start: Any) -> None:
    left = asyncio.Event()

    class Seen(Watches):
        @contextmanager
        def watcher(self) -> Iterator[asyncio.Event]:
            try:
                with super().watcher() as changed:
                    yield changed
            finally:
                if not self._watchers:
                    left.set()

    monkeypatch.setattr(dispatcher, "Watches", Seen)
    server = await start()
    calls = [watch(server) for _ in range(50)]
    for call in calls:
        await call.read()
    for call in calls:
        call.cancel()
    async with asyncio.timeout(BOUND):
        await left.wait()
