"""Workers that die or sleep through their lease: their work is finished by others, and only once."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.attempt_pb2 import AttemptStatus, FailureKind
from agentlightning.v1.rollout_pb2 import Assignment, Rollout, RolloutConfig, RolloutStatus
from agentlightning.v1.store_service_pb2_grpc import StoreServiceStub
from google.protobuf.duration_pb2 import Duration

SECOND = Duration(seconds=1)
BOUND = 30
WORKER = """
import sys
import grpc
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.store_service_pb2_grpc import StoreServiceStub
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

store = StoreServiceStub(grpc.insecure_channel(sys.argv[1]))
request = pb.DequeueRolloutsRequest(worker_id="fragile", lease_duration=Duration(seconds=1))
[assignment] = store.DequeueRollouts(request, timeout=10).assignments
attempt = assignment.attempt
ids = {"rollout_id": attempt.rollout_id, "attempt_id": attempt.attempt_id}
print(attempt.attempt_id, flush=True)

def reason(error):
    info = error_details_pb2.ErrorInfo()
    for key, value in error.trailing_metadata():
        if key == "grpc-status-details-bin":
            status_pb2.Status.FromString(value).details[0].Unpack(info)
    return info.reason

for line in sys.stdin:
    try:
        if line == "complete\\n":
            store.CompleteAttempt(pb.CompleteAttemptRequest(**ids, succeeded={}), timeout=10)
            print("OK", flush=True)
        if line == "heartbeat\\n":
            answer = store.HeartbeatAttempts(pb.HeartbeatAttemptsRequest(attempts=[ids]), timeout=10)
            print("held" if answer.results[0].held else "lost", flush=True)
    except grpc.RpcError as error:
        print(error.code().name, reason(error), flush=True)
"""


class Store:
    """The server as the test and a sound worker see it."""

    def __init__(self, stub: Any, address: str) -> None:
        self.stub = stub
        self.address = address

    async def enqueue(self, **config: Any) -> Rollout:
        rollout = Rollout(input_json="1", config=RolloutConfig(**config))
        [enqueued] = (await self.stub.EnqueueRollouts(pb.EnqueueRolloutsRequest(rollouts=[rollout]))).rollouts
        assert isinstance(enqueued, Rollout)
        return enqueued

    async def claim(self) -> Assignment:
        """What there is to do, waited for."""
        request = pb.DequeueRolloutsRequest(worker_id="sound", wait_timeout=Duration(seconds=BOUND))
        [assignment] = (await self.stub.DequeueRollouts(request)).assignments
        assert isinstance(assignment, Assignment)
        return assignment

    async def complete(self, assignment: Assignment) -> None:
        attempt = assignment.attempt
        await self.stub.CompleteAttempt(
            pb.CompleteAttemptRequest(
                rollout_id=attempt.rollout_id,
                attempt_id=attempt.attempt_id,
                succeeded=pb.CompleteAttemptRequest.Succeeded(),
            )
        )

    async def get(self, rollout: Rollout) -> Rollout:
        answer = await self.stub.GetRollout(pb.GetRolloutRequest(rollout_id=rollout.rollout_id))
        assert isinstance(answer.rollout, Rollout)
        return answer.rollout

    async def first_attempt(self, rollout: Rollout) -> Any:
        answer = await self.stub.ListAttempts(pb.ListAttemptsRequest(rollout_id=rollout.rollout_id))
        return answer.attempts[0]

    async def ended(self, rollout: Rollout) -> Rollout:
        """The rollout once it is terminal."""
        wait = pb.WaitRolloutsRequest(rollout_ids=[rollout.rollout_id], wait_timeout=Duration(seconds=BOUND))
        [ended] = [found async for message in self.stub.WaitRollouts(wait) for found in message.rollouts]
        assert isinstance(ended, Rollout)
        return ended


@pytest.fixture
async def store(serve: Callable[..., Any]) -> AsyncIterator[Store]:
    address = serve().address
    async with grpc.aio.insecure_channel(address) as channel:
        yield Store(StoreServiceStub(channel), address)


@pytest.fixture
def start_worker(run_script: Callable[..., Any], store: Store) -> Callable[[], Any]:
    """Starts a worker process that has claimed a rollout with a lease of one second when this returns."""
    return lambda: run_script(WORKER, store.address)


async def test_the_work_of_a_killed_worker_is_finished_by_another(
    store: Store, start_worker: Callable[[], Any]
) -> None:
    rollout = await store.enqueue()
    start_worker().kill()
    await store.complete(await store.claim())
    finished = await store.get(rollout)
    assert finished.status == RolloutStatus.ROLLOUT_STATUS_SUCCEEDED
    assert (finished.attempt_count, finished.redelivery_count) == (2, 1)


async def test_the_lost_attempt_says_that_its_worker_was_lost(store: Store, start_worker: Callable[[], Any]) -> None:
    rollout = await store.enqueue()
    start_worker().kill()
    await store.claim()
    lost = await store.first_attempt(rollout)
    assert lost.status == AttemptStatus.ATTEMPT_STATUS_UNRESPONSIVE
    assert lost.failure.kind == FailureKind.FAILURE_KIND_INFRASTRUCTURE
    assert "'fragile'" in lost.failure.message


async def test_work_that_kills_each_worker_is_given_up_in_the_end(
    store: Store, start_worker: Callable[[], Any]
) -> None:
    """Nobody asks and nobody reads: the deadline itself ends it, on time."""
    rollout = await store.enqueue(max_redeliveries=0)
    start_worker().kill()
    ended = await store.ended(rollout)
    assert ended.status == RolloutStatus.ROLLOUT_STATUS_FAILED
    assert ended.latest_attempt.failure.kind == FailureKind.FAILURE_KIND_INFRASTRUCTURE


async def test_a_worker_that_slept_through_its_lease_is_refused(store: Store, start_worker: Callable[[], Any]) -> None:
    rollout = await store.enqueue()
    worker = start_worker()
    worker.stop()
    again = await store.claim()
    worker.go_on()
    assert worker.ask("complete") == "FAILED_PRECONDITION ATTEMPT_SUPERSEDED"
    now = await store.get(rollout)
    assert now.status == RolloutStatus.ROLLOUT_STATUS_PREPARING
    assert now.latest_attempt.attempt_id == again.attempt.attempt_id


async def test_a_worker_that_slept_through_its_lease_learns_it_from_a_heartbeat(
    store: Store, start_worker: Callable[[], Any]
) -> None:
    await store.enqueue()
    worker = start_worker()
    worker.stop()
    await store.claim()
    worker.go_on()
    assert worker.ask("heartbeat") == "lost"


async def test_a_worker_that_wakes_after_another_has_finished_changes_nothing(
    store: Store, start_worker: Callable[[], Any]
) -> None:
    rollout = await store.enqueue()
    worker = start_worker()
    worker.stop()
    await store.complete(await store.claim())
    before = await store.get(rollout)
    worker.go_on()
    assert worker.ask("complete").startswith("FAILED_PRECONDITION")
    assert await store.get(rollout) == before


async def test_a_worker_that_wakes_before_anybody_else_has_claimed_goes_on(
    store: Store, start_worker: Callable[[], Any]
) -> None:
    """Its lease was lost, and nothing else: the work is still its own, and costs no redelivery."""
    rollout = await store.enqueue()
    worker = start_worker()
    worker.stop()
    while (await store.get(rollout)).status != RolloutStatus.ROLLOUT_STATUS_REQUEUING:
        pass
    worker.go_on()
    assert worker.ask("heartbeat") == "held"
    assert worker.ask("complete") == "OK"
    finished = await store.get(rollout)
    assert finished.status == RolloutStatus.ROLLOUT_STATUS_SUCCEEDED
    assert (finished.attempt_count, finished.redelivery_count) == (1, 0)


async def test_work_held_through_a_kill_of_the_server_is_still_its_workers(
    serve: Callable[..., Any], run_script: Callable[..., Any]
) -> None:
    server = serve()
    async with grpc.aio.insecure_channel(server.address) as channel:
        rollout = await Store(StoreServiceStub(channel), server.address).enqueue()
    worker = run_script(WORKER.replace("seconds=1", "seconds=30"), server.address)
    server.kill()
    serve(port=server.port)
    assert worker.ask("complete") == "OK"
    async with grpc.aio.insecure_channel(server.address) as channel:
        finished = await Store(StoreServiceStub(channel), server.address).get(rollout)
    assert (finished.status, finished.attempt_count) == (RolloutStatus.ROLLOUT_STATUS_SUCCEEDED, 1)
