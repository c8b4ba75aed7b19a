"""Whoever applies what a watch says holds what the store holds, whatever was done to it and however often it broke."""

import asyncio
import contextlib
import random
from typing import Any

import grpc
import pytest
from agentlightning.semconv import PRIMARY_REWARD_VALUE
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.attempt_pb2 import Attempt, AttemptStatus, Failure, FailureKind
from agentlightning.v1.resources_pb2 import Resource, Resources
from agentlightning.v1.rollout_pb2 import RetryPolicy, Rollout, RolloutConfig, RolloutStatus
from agentlightning.v1.run_pb2 import Run
from agentlightning.v1.span_pb2 import Attribute, AttributeValue, Span
from agentlightning.v1.worker_pb2 import Worker
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

SUCCEEDED = pb.CompleteAttemptRequest.Succeeded()
END = '"the end"'
CALLS = 300
BOUND = 30


class Copy:
    """What a watcher holds that applied all it was sent, in one stream or in many."""

    def __init__(self, server: Any, **filters: str) -> None:
        self._stub = server.stub
        self._filters = filters
        self._revision = 0
        self._ended = False
        self.objects: dict[str, Any] = {}

    async def follow(self, chance: random.Random | None = None) -> None:
        """Apply messages up to the last change, breaking off by chance."""
        while not self._ended:
            request = pb.WatchRequest(after_revision=self._revision, **self._filters)
            call = self._stub.Watch(request, timeout=BOUND)
            self._apply(await call.read())
            while not self._ended and not (chance and chance.random() < 0.3):
                self._apply(await call.read())
            call.cancel()

    def _apply(self, message: pb.WatchResponse) -> None:
        for change in message.changes:
            changed = getattr(change, change.WhichOneof("object"))
            assert self._revision < change.revision == changed.revision <= message.revision
            self._revision = change.revision
            self.objects[name_of(changed)] = changed
            self._ended = self._ended or change.rollout.input_json == END
        self._revision = message.revision


def name_of(found: Any) -> str:
    match found:
        case Rollout():
            return found.rollout_id
        case Run():
            return found.run_id
        case Resources():
            return f"{found.resources_id} {found.version}"
    return str(found.worker_id)


def without_signs_of_life(objects: dict[str, Any]) -> dict[str, Any]:
    """Heartbeats are no changes, so a copy does not hold the last of them."""
    for found in objects.values():
        if isinstance(found, Rollout):
            for name in ("last_heartbeat_time", "lease_expire_time"):
                found.latest_attempt.ClearField(name)
            if found.latest_attempt == Attempt():
                found.ClearField("latest_attempt")
        if isinstance(found, Worker):
            for name in ("last_heartbeat_time", "last_dequeue_time", "heartbeat_stats_json", "queue"):
                found.ClearField(name)
    return objects


async def listed(server: Any) -> dict[str, Any]:
    """Everything that the lists say."""
    stub = server.stub
    found = [
        *(await stub.ListRollouts(pb.ListRolloutsRequest(page_size=1000))).rollouts,
        *(await stub.ListRuns(pb.ListRunsRequest(page_size=1000))).runs,
        *(await stub.ListWorkers(pb.ListWorkersRequest(page_size=1000))).workers,
    ]
    for last in (await stub.ListResources(pb.ListResourcesRequest(page_size=1000))).resources:
        request = pb.ListResourcesRequest(resources_id=last.resources_id, all_versions=True, page_size=1000)
        found += (await stub.ListResources(request)).resources
    return {name_of(entry): entry for entry in found}


class Calls:
    """Makes random calls on what there is; one that is refused is as good as any."""

    def __init__(self, server: Any, run_id: str, chance: random.Random) -> None:
        self._server, self._stub, self._chance = server, server.stub, chance
        self._attempts = [{"rollout_id": "ro-x", "attempt_id": "at-x"}]
        self._runs = ["", run_id]
        self.answered = 0

    async def make(self, count: int) -> None:
        calls = [getattr(self, name) for name in sorted(vars(Calls)) if not name.startswith("_") and name != "make"]
        for _ in range(count):
            with contextlib.suppress(grpc.aio.AioRpcError):
                await self._chance.choice(calls)()
                self.answered += 1

    async def enqueue(self) -> None:
        pause = RetryPolicy(kind=FailureKind.FAILURE_KIND_AGENT, initial_backoff=Duration(seconds=5))
        silence = [AttemptStatus.ATTEMPT_STATUS_UNRESPONSIVE, AttemptStatus.ATTEMPT_STATUS_TIMEOUT]
        config = self._chance.choice(
            [
                RolloutConfig(),
                RolloutConfig(max_attempts=3, retry_policies=[pause]),
                RolloutConfig(max_attempts=2, retry_condition=silence, unresponsive_timeout=Duration(seconds=20)),
                RolloutConfig(timeout=Duration(seconds=30)),
            ]
        )
        await self._server.enqueue(config=config, queue=self._queue, run_id=self._chance.choice(self._runs))

    async def dequeue(self) -> None:
        request = pb.DequeueRolloutsRequest(queue=self._queue, worker_id=self._worker, max_rollouts=2)
        for assignment in (await self._stub.DequeueRollouts(request)).assignments:
            self._keep(assignment.attempt)

    async def start_rollout(self) -> None:
        request = pb.StartRolloutRequest(rollout=Rollout(input_json="1", queue=self._queue), worker_id=self._worker)
        self._keep((await self._stub.StartRollout(request)).assignment.attempt)

    async def start_attempt(self) -> None:
        request = pb.StartAttemptRequest(rollout_id=self._attempt["rollout_id"], worker_id=self._worker)
        self._keep((await self._stub.StartAttempt(request)).assignment.attempt)

    async def heartbeat(self) -> None:
        await self._stub.HeartbeatAttempts(pb.HeartbeatAttemptsRequest(attempts=[self._attempt, self._attempt]))

    async def release(self) -> None:
        await self._stub.ReleaseAttempts(pb.ReleaseAttemptsRequest(attempts=[self._attempt]))

    async def succeed(self) -> None:
        spans = [self._span() for _ in range(self._chance.randint(0, 2))]
        await self._stub.CompleteAttempt(
            pb.CompleteAttemptRequest(**self._attempt, succeeded=SUCCEEDED, spans=spans, lost_span_count=len(spans))
        )

    async def fail(self) -> None:
        failure = Failure(kind=self._chance.randint(0, 5), message="x")  # type: ignore[arg-type]
        lost = self._chance.randint(0, 2)
        await self._stub.CompleteAttempt(
            pb.CompleteAttemptRequest(**self._attempt, failure=failure, lost_span_count=lost)
        )

    async def add_spans(self) -> None:
        await self._stub.AddSpans(pb.AddSpansRequest(spans=[self._span(**self._attempt) for _ in range(3)]))

    async def cancel(self) -> None:
        await self._stub.CancelRollouts(pb.CancelRolloutsRequest(rollout_ids=[self._attempt["rollout_id"]]))

    async def update_rollout(self) -> None:
        status = RolloutStatus.ValueType(self._chance.randint(1, 7))
        rollout = Rollout(rollout_id=self._attempt["rollout_id"], status=status, metadata_json=self._metadata)
        paths = self._chance.choice([["status"], ["metadata_json"], ["status", "metadata_json"]])
        await self._stub.UpdateRollout(pb.UpdateRolloutRequest(rollout=rollout, update_mask=FieldMask(paths=paths)))

    async def update_attempt(self) -> None:
        status = AttemptStatus.ValueType(self._chance.randint(1, 7))
        attempt = Attempt(**self._attempt, status=status, worker_id=self._worker, metadata_json=self._metadata)
        paths = self._chance.choice([["status"], ["worker_id"], ["metadata_json"], ["status", "worker_id"]])
        await self._stub.UpdateAttempt(pb.UpdateAttemptRequest(attempt=attempt, update_mask=FieldMask(paths=paths)))

    async def put_resources(self) -> None:
        bundle = Resources(
            resources_id=self._chance.choice(["a", "b"]),
            run_id=self._chance.choice(self._runs),
            resources=[Resource(name="x", custom_json=str(self._number))],
        )
        await self._stub.UpdateResources(pb.UpdateResourcesRequest(resources=bundle))

    async def create_run(self) -> None:
        run = (await self._stub.CreateRun(pb.CreateRunRequest(run=Run(queue=self._queue)))).run
        self._runs.append(run.run_id)

    async def update_run(self) -> None:
        run = Run(run_id=self._chance.choice(self._runs), checkpoint_json=str(self._number))
        await self._stub.UpdateRun(pb.UpdateRunRequest(run=run, update_mask=FieldMask(paths=["checkpoint_json"])))

    async def update_worker(self) -> None:
        await self._stub.UpdateWorker(pb.UpdateWorkerRequest(worker_id=self._worker, heartbeat_stats_json="{}"))

    async def pass_time(self) -> None:
        self._server.clock.advance(self._chance.choice([1, 10, 61]))
        await self._stub.GetStatistics(pb.GetStatisticsRequest())

    def _keep(self, attempt: Attempt) -> None:
        self._attempts.append({"rollout_id": attempt.rollout_id, "attempt_id": attempt.attempt_id})

    def _span(self, **ids: str) -> Span:
        reward = Attribute(key=PRIMARY_REWARD_VALUE, value=AttributeValue(double_value=self._number))
        return Span(
            **ids,
            trace_id="1" * 32,
            span_id=f"{self._chance.getrandbits(64):016x}",
            name="work",
            attributes=[reward] if self._chance.random() < 0.5 else [],
        )

    @property
    def _attempt(self) -> dict[str, str]:
        return self._chance.choice(self._attempts[-8:])

    @property
    def _queue(self) -> str:
        return self._chance.choice(["", "q"])

    @property
    def _worker(self) -> str:
        return self._chance.choice(["", "w1", "w2"])

    @property
    def _number(self) -> int:
        return self._chance.getrandbits(20)

    @property
    def _metadata(self) -> str:
        return f'{{"number": {self._number}}}'


@pytest.mark.parametrize("seed", range(3))
async def test_whoever_applied_all_messages_holds_what_the_lists_say(server: Any, seed: int) -> None:
    """One that watches throughout, one that breaks off again and again, one that is late, and those that filter."""
    run_id = (await server.stub.CreateRun(pb.CreateRunRequest(run=Run(queue="q")))).run.run_id
    calls = Calls(server, run_id, random.Random(seed))
    steady, broken, late = Copy(server), Copy(server), Copy(server)
    of_run, of_queue = Copy(server, run_id=run_id), Copy(server, queue="q")
    following = [asyncio.ensure_future(copy.follow()) for copy in (steady, of_run, of_queue)]
    following.append(asyncio.ensure_future(broken.follow(random.Random(seed))))
    await calls.make(CALLS)
    await server.enqueue(END, queue="q", run_id=run_id)
    await asyncio.gather(*following, late.follow())
    found = without_signs_of_life(await listed(server))
    for copy in (steady, broken, late):
        assert without_signs_of_life(copy.objects) == found
    assert without_signs_of_life(of_run.objects) == {
        name: one for name, one in found.items() if not isinstance(one, Worker) and one.run_id == run_id
    }
    assert without_signs_of_life(of_queue.objects) == {
        name: one for name, one in found.items() if isinstance(one, Rollout | Run) and one.queue == "q"
    }
    assert calls.answered > CALLS // 2
