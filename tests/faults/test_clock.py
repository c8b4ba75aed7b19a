"""A clock that is set back an hour: leases and timeouts come on time all the same, and nothing ends before it began."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from agentlightning.testing import FakeClock
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.attempt_pb2 import AttemptStatus, Failure
from agentlightning.v1.resources_pb2 import PromptTemplate, Resource, Resources
from agentlightning.v1.rollout_pb2 import Rollout, RolloutConfig, RolloutStatus
from agentlightning.v1.run_pb2 import Run, RunStatus
from agentlightning.v1.store_service_pb2_grpc import StoreServiceStub
from agentlightning_server.app import running
from agentlightning_server.clock import SECOND
from agentlightning_server.config import Config
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

HOUR = 3600
LEASE = 60


class Store:
    """The store, whichever server it is."""

    def __init__(self, stub: Any) -> None:
        self.stub = stub

    async def enqueue(self, *tasks: str, **config: Any) -> list[str]:
        rollouts = [Rollout(input_json=task, config=RolloutConfig(**config)) for task in tasks or ("1",)]
        answer = await self.stub.EnqueueRollouts(pb.EnqueueRolloutsRequest(rollouts=rollouts))
        return [rollout.rollout_id for rollout in answer.rollouts]

    async def claim(self, **fields: Any) -> pb.AttemptRef | None:
        assignments = (await self.stub.DequeueRollouts(pb.DequeueRolloutsRequest(worker_id="w", **fields))).assignments
        return ref_to(assignments[0].attempt) if assignments else None

    async def complete(self, ref: pb.AttemptRef, **outcome: Any) -> None:
        ids = {"rollout_id": ref.rollout_id, "attempt_id": ref.attempt_id}
        await self.stub.CompleteAttempt(pb.CompleteAttemptRequest(**ids, **(outcome or {"succeeded": {}})))

    async def holds(self, ref: pb.AttemptRef) -> bool:
        answer = await self.stub.HeartbeatAttempts(pb.HeartbeatAttemptsRequest(attempts=[ref]))
        return bool(answer.results[0].held)

    async def get(self, rollout_id: str) -> Rollout:
        return (await self.stub.GetRollout(pb.GetRolloutRequest(rollout_id=rollout_id))).rollout

    async def listed(self, order_by: str) -> list[str]:
        rollouts = (await self.stub.ListRollouts(pb.ListRolloutsRequest(order_by=order_by))).rollouts
        return [rollout.rollout_id for rollout in rollouts]


def ref_to(attempt: Any) -> pb.AttemptRef:
    return pb.AttemptRef(rollout_id=attempt.rollout_id, attempt_id=attempt.attempt_id)


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Store]]]:
    """Starts a server on the test's one file; starting again stops the one before."""
    servers = AsyncExitStack()

    async def start_server(clock: FakeClock | None = None) -> Store:
        await servers.aclose()
        config = Config(database=tmp_path / "store.db", port=0, grace=0.5)
        address = await servers.enter_async_context(running(config, clock))
        channel = await servers.enter_async_context(grpc.aio.insecure_channel(address))
        return Store(StoreServiceStub(channel))

    yield start_server
    await servers.aclose()


@pytest.fixture
async def store(start: Callable[..., Awaitable[Store]], clock: FakeClock) -> Store:
    return await start(clock)


@pytest.fixture
def start_an_hour_earlier(start: Callable[..., Awaitable[Store]], clock: FakeClock) -> Callable[[], Awaitable[Store]]:
    async def start_again() -> Store:
        clock.advance(-HOUR)
        return await start(clock)

    return start_again


@pytest.fixture
def is_sound(tmp_path: Path, faults_in: Callable[[Path], list[str]]) -> Callable[[], bool]:
    return lambda: faults_in(tmp_path / "store.db") == []


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_lease_runs_its_time_whatever_the_wall_says(
    start: Callable[..., Awaitable[Store]], monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    store = await start()
    [rollout_id] = await store.enqueue()
    first = await store.claim(lease_duration=Duration(seconds=1))
    wall = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: wall() + hours * HOUR * 1000 * SECOND)
    assert await store.holds(first)
    second = await store.claim(wait_timeout=Duration(seconds=10))
    assert second is not None
    assert second.rollout_id == rollout_id
    assert not await store.holds(first)


async def test_a_lease_is_held_over_a_restart_and_runs_out_on_time(
    store: Store, clock: FakeClock, start_an_hour_earlier: Callable[[], Awaitable[Store]]
) -> None:
    [rollout_id] = await store.enqueue()
    ref = await store.claim()
    store = await start_an_hour_earlier()
    clock.advance(LEASE - 1)
    assert (await store.get(rollout_id)).status == RolloutStatus.ROLLOUT_STATUS_PREPARING
    clock.advance(2)
    assert (await store.get(rollout_id)).status == RolloutStatus.ROLLOUT_STATUS_REQUEUING
    again = await store.claim()
    assert again is not None
    assert again.attempt_id != ref.attempt_id


async def test_an_attempt_times_out_no_later_than_its_time_after_the_restart(
    store: Store, clock: FakeClock, start_an_hour_earlier: Callable[[], Awaitable[Store]], is_sound: Callable[[], bool]
) -> None:
    [rollout_id] = await store.enqueue(timeout=Duration(seconds=30))
    await store.claim()
    store = await start_an_hour_earlier()
    clock.advance(31)
    ended = await store.get(rollout_id)
    assert ended.latest_attempt.status == AttemptStatus.ATTEMPT_STATUS_TIMEOUT
    assert is_sound()


async def test_a_silent_attempt_without_a_lease_is_unresponsive_no_later_than_its_time_after_the_restart(
    store: Store, clock: FakeClock, start_an_hour_earlier: Callable[[], Awaitable[Store]]
) -> None:
    config = RolloutConfig(unresponsive_timeout=Duration(seconds=30))
    request = pb.StartRolloutRequest(rollout=Rollout(input_json="1", config=config))
    rollout_id = (await store.stub.StartRollout(request)).assignment.rollout.rollout_id
    store = await start_an_hour_earlier()
    clock.advance(31)
    assert (await store.get(rollout_id)).latest_attempt.status == AttemptStatus.ATTEMPT_STATUS_UNRESPONSIVE


@pytest.mark.parametrize("outcome", [{"succeeded": {}}, {"failure": Failure()}], ids=["succeeded", "failed"])
async def test_an_attempt_ends_after_it_began(
    store: Store,
    start_an_hour_earlier: Callable[[], Awaitable[Store]],
    is_sound: Callable[[], bool],
    outcome: dict[str, Any],
) -> None:
    await store.enqueue()
    ref = await store.claim()
    store = await start_an_hour_earlier()
    await store.complete(ref, **outcome)
    assert is_sound()


async def test_a_lost_attempt_that_is_heard_of_again_ends_after_it_began(
    store: Store, clock: FakeClock, start_an_hour_earlier: Callable[[], Awaitable[Store]], is_sound: Callable[[], bool]
) -> None:
    [rollout_id] = await store.enqueue()
    ref = await store.claim()
    clock.advance(LEASE + 1)
    assert (await store.get(rollout_id)).status == RolloutStatus.ROLLOUT_STATUS_REQUEUING
    store = await start_an_hour_earlier()
    assert await store.holds(ref)
    await store.complete(ref)
    assert is_sound()


async def test_what_waited_in_the_queue_is_cancelled_after_it_was_created(
    store: Store, start_an_hour_earlier: Callable[[], Awaitable[Store]], is_sound: Callable[[], bool]
) -> None:
    ids = await store.enqueue("1", "2")
    store = await start_an_hour_earlier()
    await store.stub.CancelRollouts(pb.CancelRolloutsRequest(rollout_ids=ids))
    assert is_sound()


async def test_lists_and_queue_keep_the_order_of_creation(
    store: Store, clock: FakeClock, start_an_hour_earlier: Callable[[], Awaitable[Store]]
) -> None:
    ids = await store.enqueue("1", "2")
    clock.advance(1)
    ids += await store.enqueue("3")
    store = await start_an_hour_earlier()
    ids += await store.enqueue("4")
    clock.advance(1)
    ids += await store.enqueue("5")
    assert await store.listed("create_time") == ids
    assert [(await store.claim()).rollout_id for _ in ids] == ids


async def test_a_repeat_is_answered_as_the_first_was(
    store: Store, start_an_hour_earlier: Callable[[], Awaitable[Store]]
) -> None:
    request = pb.EnqueueRolloutsRequest(rollouts=[Rollout(input_json="1")], request_id="r")
    first = await store.stub.EnqueueRollouts(request)
    store = await start_an_hour_earlier()
    assert await store.stub.EnqueueRollouts(request) == first


async def test_a_run_ends_after_it_was_opened(
    store: Store, start_an_hour_earlier: Callable[[], Awaitable[Store]]
) -> None:
    run = (await store.stub.CreateRun(pb.CreateRunRequest(run=Run(algorithm="a")))).run
    store = await start_an_hour_earlier()
    ending = Run(run_id=run.run_id, status=RunStatus.RUN_STATUS_SUCCEEDED)
    ended = (await store.stub.UpdateRun(pb.UpdateRunRequest(run=ending, update_mask=FieldMask(paths=["status"])))).run
    assert ended.end_time.ToMicroseconds() >= ended.create_time.ToMicroseconds()


async def test_resources_are_updated_after_they_were_created(
    store: Store, start_an_hour_earlier: Callable[[], Awaitable[Store]]
) -> None:
    resource = Resource(name="p", prompt_template=PromptTemplate(template="t"))
    request = pb.UpdateResourcesRequest(resources=Resources(resources_id="rs-1", resources=[resource]))
    await store.stub.UpdateResources(request)
    store = await start_an_hour_earlier()
    updated = (await store.stub.UpdateResources(request)).resources
    assert updated.update_time.ToMicroseconds() >= updated.create_time.ToMicroseconds()
