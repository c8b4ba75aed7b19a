"""A runner on bare gRPC that is sound, or broken as its argument says: what proves that the suite notices.

It keeps its leases by heartbeats alone and sends its spans with the completion. test_suite.py lists what it does wrong.
"""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
import time
from pathlib import Path
from typing import Any

import grpc
from agentlightning.v1 import attempt_pb2, span_pb2
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.store_service_pb2_grpc import StoreServiceStub
from google.protobuf.duration_pb2 import Duration

FLAW = sys.argv[1] if len(sys.argv) > 1 else "sound"
BY_STREAM = ("sound by stream", "stays when told that the store goes")
AGENT = attempt_pb2.FAILURE_KIND_AGENT
INFRASTRUCTURE = attempt_pb2.FAILURE_KIND_INFRASTRUCTURE
TIMEOUT = attempt_pb2.FAILURE_KIND_TIMEOUT
CONCURRENCY = int(os.environ["AGL_CONCURRENCY"])
WAIT = Duration(seconds=30 if FLAW == "keeps what it claimed when told to end" else 1)


class FailedError(Exception):
    """An attempt fails by it."""

    def __init__(self, kind: Any, failure_type: str, message: str) -> None:
        super().__init__(message)
        self.failure = attempt_pb2.Failure(kind=kind, type=failure_type, message=message)


class Runner:
    """Works in slots, each of which claims, runs and reports one rollout after the other."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self._known: set[str] = set()
        self._lost: dict[str, asyncio.Event] = {}
        self._is_ending = False
        self._left = float(os.environ.get("AGL_MAX_ROLLOUTS", "inf"))
        if FLAW == "runs more than it is to":
            self._left += 1
        self._slots: list[asyncio.Task[None]] = []

    async def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._end, number)
        self._code = 0
        self._slots = self._start()
        await asyncio.gather(*self._slots, return_exceptions=FLAW != "breaks on what is unknown")
        return 1 if FLAW == "ends with 1 when told to end" else self._code

    def _start(self) -> list[asyncio.Task[None]]:
        count = {"takes three at once": 3, "runs one at a time": 1}.get(FLAW, CONCURRENCY)
        return [asyncio.create_task(self._work()) for _ in range(count)]

    def _end(self, number: int) -> None:
        if self._is_ending:
            self._code = 128 + number
            for slot in self._slots:
                slot.cancel()
        self._is_ending = True

    async def _work(self) -> None:
        while self._left > 0 and (not self._is_ending or FLAW == "takes more when told to end"):
            request_id = secrets.token_hex(8)
            request = pb.DequeueRolloutsRequest(
                worker_id="raw", queue=os.environ["AGL_QUEUE"], wait_timeout=WAIT, request_id=request_id
            )
            for assignment in (await self._call("DequeueRollouts", request)).assignments:
                await self._take(assignment)

    async def _take(self, assignment: Any) -> None:
        attempt = assignment.attempt
        if FLAW == "breaks on what is unknown":
            attempt_pb2.AttemptStatus.Name(attempt.status)
        ref = pb.AttemptRef(rollout_id=attempt.rollout_id, attempt_id=attempt.attempt_id)
        if self._is_ending and not FLAW.endswith("when told to end"):
            await self._call("ReleaseAttempts", pb.ReleaseAttemptsRequest(attempts=[ref]))
        elif self._is_ending and FLAW.startswith("keeps"):
            return
        elif attempt.attempt_id not in self._known or FLAW == "runs what comes twice":
            self._known.add(attempt.attempt_id)
            self._left -= 1
            await self._attempt(assignment, ref)

    async def _attempt(self, assignment: Any, ref: Any) -> None:
        spans: list[Any] = []
        agent = asyncio.create_task(self._agent(assignment.rollout, spans))
        keeping = asyncio.create_task(self._keep(assignment, ref))
        limit = assignment.rollout.config.timeout.seconds
        try:
            await asyncio.wait({agent, keeping}, timeout=limit or None, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if FLAW != "gives nothing up at the second signal":
                await self._complete(ref, [], FailedError(INFRASTRUCTURE, "RunnerStopped", "stopped").failure)
            raise
        finally:
            is_lost = keeping.done()
            is_late = not is_lost and not agent.done()
            keeping.cancel()
            if agent.cancel():
                await asyncio.wait({agent})
        if is_lost and FLAW != "completes what is lost":
            return
        error = FailedError(TIMEOUT, "TimeoutError", "too slow") if is_late or is_lost else agent.exception()
        await self._complete(ref, spans, error.failure if isinstance(error, FailedError) else None)

    async def _agent(self, rollout: Any, spans: list[Any]) -> None:
        prompt = await self._prompt(rollout)
        task = json.loads(rollout.input_json)
        log = Path(task["log"])
        note(log, "began")
        if prompt:
            note(log, f"prompt {prompt}")
        spans += [a_span(f"step-{number}") for number in range(task.get("steps", 0))]
        try:
            while "wait_for" in task and not Path(task["wait_for"]).exists():  # noqa: ASYNC110 - it is another process that makes it
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            note(log, "stopped")
            raise
        if "fail" in task:
            note(log, "failed")
            kind = INFRASTRUCTURE if FLAW == "blames the network for the agent" else AGENT
            raise FailedError(kind, "Error", task["fail"])
        note(log, "ended")
        if task.get("reward") is not None and FLAW != "loses the reward":
            spans.append(a_span("reward", task["reward"]))

    async def _prompt(self, rollout: Any) -> str:
        if not rollout.resources_id:
            return ""
        version = rollout.resources_version if FLAW != "reads the last resources" else 0
        request = pb.GetResourcesRequest(resources_id=rollout.resources_id, version=version)
        try:
            resources = (await self._call("GetResources", request)).resources.resources
        except grpc.aio.AioRpcError as error:
            kind = AGENT if FLAW.startswith("blames the agent") else INFRASTRUCTURE
            raise FailedError(kind, "Missing", f"{rollout.resources_id}: {error.details()}") from error
        return next((resource.prompt_template.template for resource in resources if resource.name == "prompt"), "")

    async def _keep(self, assignment: Any, ref: Any) -> None:
        """Renew the lease until it is lost."""
        interval = assignment.heartbeat_interval.ToTimedelta().total_seconds()
        lost = self._lost[ref.attempt_id] = asyncio.Event()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(lost.wait(), interval if FLAW != "never heartbeats" else 3600)
                return
            answer = await self._call("HeartbeatAttempts", pb.HeartbeatAttemptsRequest(attempts=[ref]))
            if not answer.results[0].held:
                return

    async def _complete(self, ref: Any, spans: list[Any], failure: Any) -> None:
        outcome = {"failure": failure} if failure else {"succeeded": pb.CompleteAttemptRequest.Succeeded()}
        ids = {"rollout_id": ref.rollout_id, "attempt_id": ref.attempt_id}
        for span in spans:
            span.MergeFrom(span_pb2.Span(**ids))
        is_late = FLAW == "sends spans after the completion"
        request = pb.CompleteAttemptRequest(**ids, **outcome, spans=[] if is_late else spans)
        try:
            await self._call("CompleteAttempt", request, is_repeated=FLAW != "completes only once")
            if is_late and spans:
                await asyncio.sleep(0.2)
                await self._call("AddSpans", pb.AddSpansRequest(spans=spans))
        except grpc.aio.AioRpcError:  # it is somebody else's
            if FLAW == "completes again what is refused":
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await self._call("CompleteAttempt", request)

    async def _call(self, method: str, request: Any, is_repeated: bool = True) -> Any:
        """The answer, asked for again as long as the store is away."""
        while True:
            try:
                return await getattr(self._stub, method)(request)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE or not is_repeated:
                    raise
                if FLAW == "ends when the store goes away":
                    sys.exit("the store went away")
            if FLAW == "claims again with another id" and method == "DequeueRollouts":
                request.request_id = secrets.token_hex(8)
            await asyncio.sleep(0.1)


class StreamRunner(Runner):
    """Is pushed its work, for as many credits as it has free slots."""

    _call_now: Any = None
    _credits = 0

    def _start(self) -> list[asyncio.Task[None]]:
        self._ending = asyncio.Event()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._refs: dict[str, Any] = {}
        return [asyncio.create_task(self._work())]

    def _end(self, number: int) -> None:
        self._slots += self._running.values()
        super()._end(number)
        self._ending.set()

    async def _work(self) -> None:
        streams = asyncio.create_task(self._streams())
        await self._ending.wait()
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call_now.write(pb.StreamDequeueRequest(drain=pb.StreamDequeueRequest.Drain()))
        await asyncio.gather(*self._running.values())
        streams.cancel()
        await asyncio.wait({streams})

    async def _streams(self) -> None:
        """One stream after the other; what runs is not theirs."""
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await self._stream()
            await asyncio.sleep(0.1)

    async def _stream(self) -> None:
        call = self._call_now = self._stub.StreamDequeue()
        self._credits = self._wanted()
        opening = pb.StreamDequeueRequest.Open(
            worker_id="raw", queue=os.environ["AGL_QUEUE"], credits=self._credits, held=self._held()
        )
        await call.write(pb.StreamDequeueRequest(open=opening))
        async for answer in call:
            match answer.WhichOneof("message"):
                case "assignment":
                    self._begin(answer.assignment)
                case "lost" if answer.lost.attempt.attempt_id in self._lost:
                    self._lost[answer.lost.attempt.attempt_id].set()
                case "go_away" if FLAW != "stays when told that the store goes":
                    await call.done_writing()

    def _begin(self, assignment: Any) -> None:
        attempt_id = assignment.attempt.attempt_id
        if attempt_id in self._refs:
            return
        self._credits -= 1
        self._refs[attempt_id] = pb.AttemptRef(rollout_id=assignment.attempt.rollout_id, attempt_id=attempt_id)
        task = self._running[attempt_id] = asyncio.create_task(self._take(assignment))
        task.add_done_callback(lambda _: self._refill(attempt_id))

    def _refill(self, attempt_id: str) -> None:
        del self._running[attempt_id]
        if self._left <= 0 and not self._running:
            self._ending.set()
        if not self._is_ending and (more := self._wanted() - self._credits) > 0:
            self._credits += more
            task = asyncio.create_task(self._grant(more))
            self._slots.append(task)

    async def _grant(self, credits: int) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call_now.write(pb.StreamDequeueRequest(add_credits=credits))

    def _wanted(self) -> int:
        return int(min(CONCURRENCY - len(self._running), self._left))

    def _held(self) -> list[Any]:
        return [self._refs[attempt_id] for attempt_id in self._running]


def a_span(name: str, reward: float | None = None) -> Any:
    span = span_pb2.Span(trace_id=secrets.token_hex(16), span_id=secrets.token_hex(8), name=name)
    span.start_time.FromNanoseconds(time.time_ns())
    span.end_time.CopyFrom(span.start_time)
    if reward is not None:
        span.attributes.add(key="agentlightning.reward.0.value").value.double_value = reward
    return span


def note(log: Path, line: str) -> None:
    with log.open("a") as file:
        file.write(f"{line}\n")


async def main() -> int:
    async with grpc.aio.insecure_channel(os.environ["AGL_STORE"]) as channel:
        kind = StreamRunner if FLAW in BY_STREAM else Runner
        return await kind(StoreServiceStub(channel)).run()


if __name__ == "__main__":
    os._exit(asyncio.run(main()))
