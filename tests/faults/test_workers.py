"""Workers that die or sleep through their lease: their work is finished by others, and only once."""

import asyncio
import contextlib
import random
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from agentlightning import LightningStoreClient
from agentlightning.types import EnqueueRolloutRequest
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
BUSY_WORKER = """
import sys
import grpc
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.span_pb2 import Span
from agentlightning.v1.store_service_pb2_grpc import StoreServiceStub
from google.protobuf.duration_pb2 import Duration

store = StoreServiceStub(grpc.insecure_channel(sys.argv[1]))
request = pb.DequeueRolloutsRequest(
    worker_id=sys.argv[2], max_rollouts=2, lease_duration=Duration(seconds=1), wait_timeout=Duration(seconds=5)
)
print("ready", flush=True)
while True:
    for assignment in store.DequeueRollouts(request, timeout=10).assignments:
        ids = {"rollout_id": assignment.attempt.rollout_id, "attempt_id": assignment.attempt.attempt_id}
        print("claimed", ids["attempt_id"], flush=True)
        span = Span(**ids, trace_id="1" * 32, span_id="1" * 16, name="work")
        store.AddSpans(pb.AddSpansRequest(spans=[span]), timeout=10)
        print("heard of", ids["attempt_id"], flush=True)
        store.CompleteAttempt(pb.CompleteAttemptRequest(**ids, succeeded={}), timeout=10)
        print("completed", ids["attempt_id"], flush=True)
"""
PRODUCERS, BATCH, LINES_BETWEEN_KILLS = 3, 20, range(1, 40)

SERVER_WITH_SHORT_LEASES = """
import asyncio, sys
from datetime import timedelta
from pathlib import Path
from agentlightning_server.app import serve
from agentlightning_server.config import Config, Limits

limits = Limits(default_lease=timedelta(seconds=1))
config = Config(Path(sys.argv[1]), port=0, limits=limits)
asyncio.run(serve(config, on_ready=lambda address: print(address, flush=True)))
"""
SLOW_LOOP = """
import asyncio, sys, time
import agentlightning as agl

async def work():
    store = agl.LightningStoreClient(sys.argv[1])
    while rollout := await store.dequeue_rollout():
        time.sleep(2)
        await store.complete_attempt(rollout.rollout_id, rollout.attempt.attempt_id)
    await store.close()

asyncio.run(work())
print("done", flush=True)
"""
SLOW_RUNNER = """
import asyncio, sys, time
import agentlightning as agl

async def agent(task: int) -> None:
    time.sleep(2)

runner = agl.LitAgentRunner(max_rollouts=1)
with runner.run_context(agent=agent, store=agl.LightningStoreClient(sys.argv[1])):
    asyncio.run(runner.iter())
print("done", flush=True)
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


async def enqueue_and_wait(client: LightningStoreClient, enqueued: list[str], enough: asyncio.Event) -> None:
    while not enough.is_set():
        batch = await client.enqueue_many_rollouts([EnqueueRolloutRequest(input=1)] * BATCH)
        ids = [rollout.rollout_id for rollout in batch]
        enqueued += ids
        await client.wait_for_rollouts(ids)


async def test_each_rollout_of_killed_workers_is_finished_by_another(
    serve: Callable[..., Any],
    run_script: Callable[..., Any],
    faults_in: Callable[[Path], list[str]],
    times: Callable[[int, int], int],
    tell: Callable[[str], None],
) -> None:
    """They are killed at random moments of their work, and replaced; the rollouts have the default configuration."""
    server = serve()
    client = LightningStoreClient(server.address)
    chance, kills = random.Random(0), times(4, 25)
    enqueued, said, enough = list[str](), list[str](), asyncio.Event()
    busy = [run_script(BUSY_WORKER, server.address, f"worker-{number}") for number in range(times(2, 4))]
    async with asyncio.TaskGroup() as tasks:
        producers = [tasks.create_task(enqueue_and_wait(client, enqueued, enough)) for _ in range(PRODUCERS)]
        for number in range(kills):
            victim = busy.pop(chance.randrange(len(busy)))
            for _ in range(chance.choice(LINES_BETWEEN_KILLS)):
                said.append(await asyncio.to_thread(victim.read_line))
            victim.kill()
            said += iter(victim.read_line, "")
            busy.append(await asyncio.to_thread(run_script, BUSY_WORKER, server.address, f"replacement-{number}"))
        enough.set()
        await asyncio.wait(producers, timeout=BOUND)
        for producer in producers:
            producer.cancel()
    for worker in busy:
        worker.kill()
        said += iter(worker.read_line, "")
    await client.close()
    server.kill()

    with contextlib.closing(sqlite3.connect(server.database)) as connection:
        statuses = dict(connection.execute("SELECT rollout_id, status FROM rollouts"))
        succeeded = dict(
            connection.execute("SELECT attempt_id, rollout_id FROM attempts WHERE status = 'succeeded'").fetchall()
        )
        [[lost]] = connection.execute("SELECT count(*) FROM attempts WHERE lost")
    acknowledged = [line.removeprefix("completed ") for line in said if line.startswith("completed")]
    untrue = [attempt for attempt in acknowledged if attempt not in succeeded]
    stuck = [rollout for rollout in enqueued if statuses.get(rollout) != "succeeded"]
    twice = [rollout for rollout, count in Counter(succeeded.values()).items() if count > 1]
    tell(
        f"{kills} workers killed: {len(enqueued)} rollouts, {len(acknowledged)} completions acknowledged, {lost} "
        f"attempts lost with their worker and delivered again: {len(untrue)} completions lost, {len(twice)} rollouts "
        f"done twice, {len(stuck)} stuck"
    )
    assert (untrue, twice, stuck, faults_in(server.database)) == ([], [], [], [])


async def test_many_workers_that_slept_through_their_leases_change_nothing(
    store: Store, start_worker: Callable[[], Any], times: Callable[[int, int], int], tell: Callable[[str], None]
) -> None:
    """Half of their rollouts are done by another when they wake, half are another's still."""
    count = times(3, 20)
    rollouts = [await store.enqueue() for _ in range(count)]
    workers = [await asyncio.to_thread(start_worker) for _ in rollouts]
    for worker in workers:
        worker.stop()
    again = [await store.claim() for _ in rollouts]
    for assignment in again[::2]:
        await store.complete(assignment)
    before = [await store.get(rollout) for rollout in rollouts]
    for worker in workers:
        worker.go_on()
    answers = Counter([worker.ask("complete") for worker in workers])
    changed = [
        then.rollout_id for then, rollout in zip(before, rollouts, strict=True) if await store.get(rollout) != then
    ]
    tell(f"{count} workers stopped and woken: {dict(answers)}, {len(changed)} rollouts changed")
    assert answers == {"FAILED_PRECONDITION ATTEMPT_SUPERSEDED": count}
    assert changed == []


@pytest.mark.parametrize("script", [SLOW_LOOP, SLOW_RUNNER], ids=["a plain loop", "a runner"])
async def test_slow_work_that_blocks_its_loop_keeps_its_lease(
    run_script: Callable[..., Any], tmp_path: Path, script: str
) -> None:
    """The agent blocks its loop for longer than a lease lasts; the client renews it all the same."""
    address = run_script(SERVER_WITH_SHORT_LEASES, str(tmp_path / "store.db")).greeting
    async with grpc.aio.insecure_channel(address) as channel:
        store = Store(StoreServiceStub(channel), address)
        rollout = await store.enqueue()
        assert run_script(script, address).greeting == "done"
        finished = await store.get(rollout)
    assert finished.status == RolloutStatus.ROLLOUT_STATUS_SUCCEEDED
    assert finished.attempt_count == 1
