"""StoreService: each call checked, handed on and answered. Decides nothing."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import timedelta
from typing import Any, TypeVar

import grpc
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.attempt_pb2 import AttemptStatus, FailureKind
from agentlightning.v1.rollout_pb2 import RolloutMode, RolloutStatus
from agentlightning.v1.run_pb2 import RunStatus
from agentlightning.v1.store_service_pb2_grpc import StoreServiceServicer
from agentlightning.v1.worker_pb2 import WorkerStatus
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from agentlightning_server.clock import SECOND, Clock
from agentlightning_server.config import Limits
from agentlightning_server.dispatch.dispatcher import Dispatcher
from agentlightning_server.dispatch.streams import WorkStream
from agentlightning_server.errors import FieldInvalidError, StoreError
from agentlightning_server.rpc import validation as check
from agentlightning_server.storage import (
    attempts,
    lists,
    requests,
    resources,
    rollouts,
    runs,
    spans,
    statistics,
    workers,
)
from agentlightning_server.storage.rows import duration, timestamp
from agentlightning_server.storage.transaction import Transaction

_ROLLOUT_FIELDS = frozenset({"input_json", "mode", "resources_id", "config", "metadata_json", "labels", "status"})
_ATTEMPT_FIELDS = frozenset({"status", "worker_id", "last_heartbeat_time", "metadata_json"})
_RUN_FIELDS = frozenset(
    {
        "status",
        "config_json",
        "checkpoint_json",
        "summary_json",
        "best_resources_id",
        "best_resources_version",
        "failure",
        "labels",
    }
)

_RATES = {
    "created": "rollouts_created",
    "started": "attempts_started",
    "ended": "rollouts_ended",
    "spans": "spans_stored",
}
_MOST_SKIPPED = 1 << 40

Context = Any
M = TypeVar("M", bound=Message)


class StoreService(StoreServiceServicer):
    """The store over gRPC."""

    def __init__(self, dispatcher: Dispatcher, limits: Limits, version: str, clock: Clock) -> None:
        self._dispatcher = dispatcher
        self._limits = limits
        self._version = version
        self._clock = clock
        self._start_time = clock()

    async def EnqueueRollouts(self, request: pb.EnqueueRolloutsRequest, context: Context) -> pb.EnqueueRolloutsResponse:
        self._check_request(request.request_id)
        check.check_count("rollouts", request.rollouts, self._limits.max_batch)
        for number, rollout in enumerate(request.rollouts):
            check.check_rollout(f"rollouts[{number}]", rollout)

        def enqueue(tx: Transaction) -> pb.EnqueueRolloutsResponse:
            return pb.EnqueueRolloutsResponse(rollouts=rollouts.enqueue(tx, request.rollouts))

        return await self._once(request, pb.EnqueueRolloutsResponse, enqueue)

    async def StartRollout(self, request: pb.StartRolloutRequest, context: Context) -> pb.StartRolloutResponse:
        self._check_request(request.request_id)
        check.check_rollout("rollout", request.rollout)
        lease = self._lease(request, default=None)

        def start(tx: Transaction) -> pb.StartRolloutResponse:
            assignment = rollouts.start(tx, request.rollout, request.worker_id, lease)
            return pb.StartRolloutResponse(assignment=assignment)

        return await self._once(request, pb.StartRolloutResponse, start)

    async def StartAttempt(self, request: pb.StartAttemptRequest, context: Context) -> pb.StartAttemptResponse:
        self._check_request(request.request_id)
        lease = self._lease(request, default=None)

        def start(tx: Transaction) -> pb.StartAttemptResponse:
            return pb.StartAttemptResponse(assignment=attempts.start(tx, request.rollout_id, request.worker_id, lease))

        return await self._once(request, pb.StartAttemptResponse, start)

    async def DequeueRollouts(self, request: pb.DequeueRolloutsRequest, context: Context) -> pb.DequeueRolloutsResponse:
        self._check_request(request.request_id)
        check.check_size("max_rollouts", request.max_rollouts, self._limits.max_batch)
        check.check_size("worker_ids", len(request.worker_ids) * (request.max_rollouts or 1), self._limits.max_batch)
        if request.worker_id and request.worker_ids:
            raise FieldInvalidError("worker_id", request.worker_id, "nothing, as worker_ids says who asks")
        lease = self._lease(request, default=self._limits.default_lease)
        assert lease is not None
        assignments = await self._dispatcher.dequeue(
            request,
            limit=request.max_rollouts or 1,
            lease_duration=lease,
            wait_seconds=self._wait_seconds(request.wait_timeout, context),
        )
        return pb.DequeueRolloutsResponse(assignments=assignments)

    async def HeartbeatAttempts(
        self, request: pb.HeartbeatAttemptsRequest, context: Context
    ) -> pb.HeartbeatAttemptsResponse:
        check.check_count("attempts", request.attempts, self._limits.max_batch)
        results = await self._dispatcher.write(lambda tx: [attempts.heartbeat(tx, ref) for ref in request.attempts])
        return pb.HeartbeatAttemptsResponse(results=results)

    async def ReleaseAttempts(self, request: pb.ReleaseAttemptsRequest, context: Context) -> pb.ReleaseAttemptsResponse:
        check.check_count("attempts", request.attempts, self._limits.max_batch)

        def release(tx: Transaction) -> list[str]:
            return [ref.attempt_id for ref in request.attempts if attempts.release(tx, ref)]

        return pb.ReleaseAttemptsResponse(released_attempt_ids=await self._dispatcher.write(release))

    async def CompleteAttempt(self, request: pb.CompleteAttemptRequest, context: Context) -> pb.CompleteAttemptResponse:
        self._check_completion(request)
        rollout = await self._dispatcher.write(lambda tx: attempts.complete(tx, request))
        return pb.CompleteAttemptResponse(rollout=rollout)

    async def CompleteAttempts(
        self, request: pb.CompleteAttemptsRequest, context: Context
    ) -> pb.CompleteAttemptsResponse:
        check.check_count("attempts", request.attempts, self._limits.max_batch)
        spans_in_all = [span for completion in request.attempts for span in completion.spans]
        check.check_count("attempts.spans", spans_in_all, self._limits.max_batch)
        Result = pb.CompleteAttemptsResponse.Result

        def refused(error: StoreError) -> pb.CompleteAttemptsResponse.Result:
            return Result(error_reason=error.reason_name, error_message=str(error), error_metadata=error.metadata)

        def complete(tx: Transaction, number: int) -> pb.CompleteAttemptsResponse.Result:
            if number in refusals:
                return refusals[number]
            try:
                return Result(rollout=attempts.complete(tx, request.attempts[number]))
            except StoreError as error:  # which changes nothing
                return refused(error)

        refusals: dict[int, pb.CompleteAttemptsResponse.Result] = {}
        for number, completion in enumerate(request.attempts):
            try:
                self._check_completion(completion)
            except StoreError as error:
                refusals[number] = refused(error)
        numbers = range(len(request.attempts))
        results = await self._dispatcher.write(lambda tx: [complete(tx, number) for number in numbers])
        return pb.CompleteAttemptsResponse(results=results)

    async def CancelRollouts(self, request: pb.CancelRolloutsRequest, context: Context) -> pb.CancelRolloutsResponse:
        check.check_count("rollout_ids", request.rollout_ids, self._limits.max_wait_ids)

        def cancel(tx: Transaction) -> pb.CancelRolloutsResponse:
            known = rollouts.by_ids(tx, request.rollout_ids)
            for rollout_id in known:
                attempts.cancel(tx, rollout_id)
            now = rollouts.by_ids(tx, known)
            return pb.CancelRolloutsResponse(
                rollouts=[now[rollout_id] for rollout_id in request.rollout_ids if rollout_id in now],
                unknown_rollout_ids=[rollout_id for rollout_id in request.rollout_ids if rollout_id not in now],
            )

        return await self._dispatcher.write(cancel)

    async def UpdateRollout(self, request: pb.UpdateRolloutRequest, context: Context) -> pb.UpdateRolloutResponse:
        check.check_mask("update_mask", request.update_mask, _ROLLOUT_FIELDS)
        check.check_rollout("rollout", _with_input(request))
        if "status" in request.update_mask.paths:
            check.check_enum("rollout.status", request.rollout.status, RolloutStatus)
        return pb.UpdateRolloutResponse(rollout=await self._dispatcher.write(lambda tx: rollouts.update(tx, request)))

    async def UpdateAttempt(self, request: pb.UpdateAttemptRequest, context: Context) -> pb.UpdateAttemptResponse:
        check.check_mask("update_mask", request.update_mask, _ATTEMPT_FIELDS)
        check.check_json_object("attempt.metadata_json", request.attempt.metadata_json)
        check.check_time("attempt.last_heartbeat_time", request.attempt.last_heartbeat_time)
        if "status" in request.update_mask.paths:
            check.check_enum("attempt.status", request.attempt.status, AttemptStatus)
        return pb.UpdateAttemptResponse(attempt=await self._dispatcher.write(lambda tx: attempts.update(tx, request)))

    async def GetRollout(self, request: pb.GetRolloutRequest, context: Context) -> pb.GetRolloutResponse:
        rollout = await self._dispatcher.read(lambda tx: rollouts.get(tx, request.rollout_id))
        return pb.GetRolloutResponse(rollout=rollout)

    async def ListRollouts(self, request: pb.ListRolloutsRequest, context: Context) -> pb.ListRolloutsResponse:
        self._check_list(request)
        check.check_count("rollout_ids", request.rollout_ids, self._limits.max_wait_ids)
        for status in request.statuses:
            check.check_enum("statuses", status, RolloutStatus)
        check.check_enum_if_given("mode", request.mode, RolloutMode)
        check.check_number("min_final_reward", request.min_final_reward)
        check.check_number("max_final_reward", request.max_final_reward)
        page, revision = await self._dispatcher.read(lambda tx: (lists.rollouts(tx, request), tx.revision()))
        return pb.ListRolloutsResponse(
            rollouts=page.items, next_page_token=page.next_token, total_size=page.total, revision=revision
        )

    async def ListAttempts(self, request: pb.ListAttemptsRequest, context: Context) -> pb.ListAttemptsResponse:
        self._check_list(request)
        page = await self._dispatcher.read(lambda tx: lists.attempts(tx, request))
        return pb.ListAttemptsResponse(attempts=page.items, next_page_token=page.next_token, total_size=page.total)

    def WaitRollouts(
        self, request: pb.WaitRolloutsRequest, context: Context
    ) -> AsyncGenerator[pb.WaitRolloutsResponse, None]:
        check.check_count("rollout_ids", request.rollout_ids, self._limits.max_wait_ids)
        check.check_size("after_revision", request.after_revision, check.MAX_REVISION)
        return self._dispatcher.wait(
            request.rollout_ids,
            any_of=request.any,
            after_revision=request.after_revision,
            wait_seconds=check.waiting(request.wait_timeout) if request.HasField("wait_timeout") else None,
        )

    async def AddSpans(self, request: pb.AddSpansRequest, context: Context) -> pb.AddSpansResponse:
        check.check_count("spans", request.spans, self._limits.max_batch)
        refused: dict[int, pb.AddSpansResponse.Result] = {}
        for number, span in enumerate(request.spans):
            try:
                check.check_span(span)
            except StoreError as error:
                refused[number] = spans.rejected(error)
        good = [span for number, span in enumerate(request.spans) if number not in refused]
        stored = iter(await self._dispatcher.write(lambda tx: attempts.add_spans(tx, good)))
        return pb.AddSpansResponse(
            results=[refused[number] if number in refused else next(stored) for number in range(len(request.spans))]
        )

    async def ListSpans(self, request: pb.ListSpansRequest, context: Context) -> pb.ListSpansResponse:
        self._check_list(request)
        page = await self._dispatcher.read(lambda tx: lists.spans(tx, request))
        return pb.ListSpansResponse(spans=page.items, next_page_token=page.next_token, total_size=page.total)

    async def ReserveSequenceIds(
        self, request: pb.ReserveSequenceIdsRequest, context: Context
    ) -> pb.ReserveSequenceIdsResponse:
        check.check_count("rollout_ids", request.rollout_ids, self._limits.max_batch)
        ids = await self._dispatcher.write(
            lambda tx: [spans.reserve(tx, rollout_id) for rollout_id in request.rollout_ids]
        )
        return pb.ReserveSequenceIdsResponse(sequence_ids=ids)

    async def AddResources(self, request: pb.AddResourcesRequest, context: Context) -> pb.AddResourcesResponse:
        self._check_request(request.request_id)
        check.check_resources("resources", request.resources)
        if request.resources.resources_id:
            raise FieldInvalidError(
                "resources.resources_id",
                request.resources.resources_id,
                "nothing: use UpdateResources to choose an id",
            )

        def add(tx: Transaction) -> pb.AddResourcesResponse:
            return pb.AddResourcesResponse(resources=resources.put(tx, request.resources))

        return await self._once(request, pb.AddResourcesResponse, add)

    async def UpdateResources(self, request: pb.UpdateResourcesRequest, context: Context) -> pb.UpdateResourcesResponse:
        self._check_request(request.request_id)
        check.check_resources("resources", request.resources)
        check.check_text("resources.resources_id", request.resources.resources_id)

        def update(tx: Transaction) -> pb.UpdateResourcesResponse:
            return pb.UpdateResourcesResponse(resources=resources.put(tx, request.resources))

        return await self._once(request, pb.UpdateResourcesResponse, update)

    async def GetResources(self, request: pb.GetResourcesRequest, context: Context) -> pb.GetResourcesResponse:
        found = await self._dispatcher.read(
            lambda tx: resources.get(tx, request.resources_id, request.version, request.run_id)
        )
        return pb.GetResourcesResponse(resources=found)

    async def ListResources(self, request: pb.ListResourcesRequest, context: Context) -> pb.ListResourcesResponse:
        self._check_list(request)
        page = await self._dispatcher.read(lambda tx: lists.resources(tx, request))
        return pb.ListResourcesResponse(resources=page.items, next_page_token=page.next_token, total_size=page.total)

    async def CreateRun(self, request: pb.CreateRunRequest, context: Context) -> pb.CreateRunResponse:
        self._check_request(request.request_id)
        check.check_json("run.config_json", request.run.config_json)

        def create(tx: Transaction) -> pb.CreateRunResponse:
            return pb.CreateRunResponse(run=runs.create(tx, request.run))

        return await self._once(request, pb.CreateRunResponse, create)

    async def UpdateRun(self, request: pb.UpdateRunRequest, context: Context) -> pb.UpdateRunResponse:
        self._check_request(request.request_id)
        check.check_mask("update_mask", request.update_mask, _RUN_FIELDS)
        for name in ("config_json", "checkpoint_json", "summary_json"):
            check.check_json(f"run.{name}", getattr(request.run, name))
        if "status" in request.update_mask.paths:
            check.check_enum("run.status", request.run.status, RunStatus)
        check.check_enum_if_given("run.failure.kind", request.run.failure.kind, FailureKind)

        def update(tx: Transaction) -> pb.UpdateRunResponse:
            return pb.UpdateRunResponse(run=runs.update(tx, request))

        return await self._once(request, pb.UpdateRunResponse, update)

    async def GetRun(self, request: pb.GetRunRequest, context: Context) -> pb.GetRunResponse:
        return pb.GetRunResponse(run=await self._dispatcher.read(lambda tx: runs.get(tx, request.run_id)))

    async def ListRuns(self, request: pb.ListRunsRequest, context: Context) -> pb.ListRunsResponse:
        self._check_list(request)
        for status in request.statuses:
            check.check_enum("statuses", status, RunStatus)
        page = await self._dispatcher.read(lambda tx: lists.runs(tx, request))
        return pb.ListRunsResponse(runs=page.items, next_page_token=page.next_token)

    async def UpdateWorker(self, request: pb.UpdateWorkerRequest, context: Context) -> pb.UpdateWorkerResponse:
        check.check_text("worker_id", request.worker_id)
        check.check_json_object("heartbeat_stats_json", request.heartbeat_stats_json)
        worker = await self._dispatcher.write(
            lambda tx: workers.heartbeat(tx, request.worker_id, request.heartbeat_stats_json)
        )
        return pb.UpdateWorkerResponse(worker=worker)

    async def GetWorker(self, request: pb.GetWorkerRequest, context: Context) -> pb.GetWorkerResponse:
        worker = await self._dispatcher.read(lambda tx: workers.get(tx, request.worker_id))
        return pb.GetWorkerResponse(worker=worker)

    async def ListWorkers(self, request: pb.ListWorkersRequest, context: Context) -> pb.ListWorkersResponse:
        self._check_list(request)
        for status in request.statuses:
            check.check_enum("statuses", status, WorkerStatus)
        page = await self._dispatcher.read(lambda tx: lists.workers(tx, request))
        return pb.ListWorkersResponse(workers=page.items, next_page_token=page.next_token, total_size=page.total)

    async def GetServerInfo(self, request: pb.GetServerInfoRequest, context: Context) -> pb.GetServerInfoResponse:
        limits = self._limits
        return pb.GetServerInfoResponse(
            version=self._version,
            capabilities=pb.GetServerInfoResponse.Capabilities(
                stream_dequeue=True, watch=True, otlp_traces=True, delete_rollouts=True, backup_database=True
            ),
            limits=pb.GetServerInfoResponse.Limits(
                max_batch=limits.max_batch,
                max_page=limits.max_page,
                max_wait_ids=limits.max_wait_ids,
                max_wait=_duration(limits.max_wait),
                min_lease=_duration(limits.min_lease),
                max_lease=_duration(limits.max_lease),
                max_message_bytes=limits.max_message_bytes,
            ),
            database_path=str(self._dispatcher.database.path),
            durability=self._dispatcher.database.durability,
            start_time=timestamp(self._start_time),
            current_time=timestamp(self._clock()),
        )

    async def GetStatistics(self, request: pb.GetStatisticsRequest, context: Context) -> pb.GetStatisticsResponse:
        answer = await self._dispatcher.read(statistics.count)
        window, events = self._dispatcher.rates.over_window()
        rates = {field: events[name] * SECOND / window for name, field in _RATES.items()}
        answer.rates.CopyFrom(pb.GetStatisticsResponse.Rates(window=duration(window), **rates))
        answer.uptime.CopyFrom(duration(self._clock() - self._start_time))
        return answer

    async def StreamDequeue(  # type: ignore[override]  # it writes by itself, so as to know what has been written
        self, request_iterator: AsyncIterator[pb.StreamDequeueRequest], context: Context
    ) -> None:
        requests = aiter(request_iterator)
        opening = await self._opening(requests)
        lease = self._lease(opening, default=self._limits.default_lease, field="open.lease_duration")
        assert lease is not None
        with self._dispatcher.stream(opening, lease) as stream:
            hearing = asyncio.create_task(self._hear(requests, opening, stream), name="stream")
            try:
                while (message := await stream.next()) is not None:
                    await context.write(message)
            except grpc.aio.InternalError:
                return  # the worker is gone, which this call is about to be told
            finally:
                hearing.cancel()
                await asyncio.wait([hearing])
            hearing.result()

    def Watch(self, request: pb.WatchRequest, context: Context) -> AsyncGenerator[pb.WatchResponse, None]:
        check.check_size("after_revision", request.after_revision, check.MAX_REVISION)
        return self._dispatcher.watch(request.after_revision, run_id=request.run_id, queue=request.queue)

    async def DeleteRollouts(self, request: pb.DeleteRolloutsRequest, context: Context) -> pb.DeleteRolloutsResponse:
        if not (request.rollout_ids or request.run_id or request.HasField("ended_for")):
            raise FieldInvalidError("rollout_ids", "", "rollout_ids, run_id or ended_for: something that says which")
        check.check_count("rollout_ids", request.rollout_ids, self._limits.max_wait_ids)
        if request.HasField("ended_for"):
            check.not_negative("ended_for", request.ended_for)
        return await self._dispatcher.delete(request)

    async def BackupDatabase(self, request: pb.BackupDatabaseRequest, context: Context) -> pb.BackupDatabaseResponse:
        check.check_file_name("file_name", request.file_name)
        file = await self._dispatcher.database.backup(request.file_name)
        return pb.BackupDatabaseResponse(path=str(file), size_bytes=file.stat().st_size)

    async def _opening(self, requests: AsyncIterator[pb.StreamDequeueRequest]) -> pb.StreamDequeueRequest.Open:
        request = await anext(requests, pb.StreamDequeueRequest())
        if not request.HasField("open"):
            raise FieldInvalidError("open", request.WhichOneof("message") or "", "the first message")
        check.check_size("open.credits", request.open.credits, self._limits.max_batch)
        check.check_count("open.held", request.open.held, self._limits.max_batch)
        for number, ref in enumerate(request.open.held):
            check.check_ref(f"open.held[{number}]", ref)
        return request.open

    async def _hear(
        self,
        requests: AsyncIterator[pb.StreamDequeueRequest],
        opening: pb.StreamDequeueRequest.Open,
        stream: WorkStream,
    ) -> None:
        """Do what a worker says on its stream, until it says no more or what it cannot say."""
        try:
            await stream.hold(opening.held)
            async for request in requests:
                await self._obey(request, stream)
        except BaseException:
            stream.close()
            raise
        stream.half_close()

    async def _obey(self, request: pb.StreamDequeueRequest, stream: WorkStream) -> None:
        match request.WhichOneof("message"):
            case "add_credits":
                limit = self._limits.max_batch
                if not 0 < request.add_credits <= limit - stream.credits:
                    expected = f"1 or more, and at most {limit} with the {stream.credits} that are left"
                    raise FieldInvalidError("add_credits", request.add_credits, expected)
                stream.add_credits(request.add_credits)
            case "drain":
                stream.drain()
            case "hold":
                check.check_ref("hold", request.hold)
                await stream.hold([request.hold])
            case "open":
                raise FieldInvalidError("open", "a second one", "it in the first message only")
            case _:
                raise FieldInvalidError("message", "", "add_credits, drain or hold")

    async def _once(self, request: Any, answer_type: type[M], operation: Callable[[Transaction], M]) -> M:
        """Run a creating operation so that a repeat of the request is answered as the first was."""
        return await self._dispatcher.write(
            lambda tx: requests.answer_once(tx, request.request_id, request, answer_type, operation)
        )

    def _check_completion(self, request: pb.CompleteAttemptRequest) -> None:
        if request.WhichOneof("outcome") is None:
            raise FieldInvalidError("outcome", "", "succeeded or failure")
        if request.failure.kind != FailureKind.FAILURE_KIND_UNSPECIFIED:
            check.check_enum("failure.kind", request.failure.kind, FailureKind)
        if request.failure.kind == FailureKind.FAILURE_KIND_UNRESPONSIVE:
            raise FieldInvalidError("failure.kind", "unresponsive", "a kind that a worker can tell of itself")
        check.check_size("lost_span_count", request.lost_span_count, check.MAX_SEQUENCE_ID)
        check.check_count("spans", request.spans, self._limits.max_batch)
        for number, span in enumerate(request.spans):
            span.rollout_id, span.attempt_id = request.rollout_id, request.attempt_id
            check.check_span(span, at=f"spans[{number}].")

    def _check_request(self, request_id: str) -> None:
        if len(request_id) > self._limits.max_request_id:
            raise FieldInvalidError("request_id", request_id, f"at most {self._limits.max_request_id} characters")

    def _check_list(self, request: Any) -> None:
        """What every list takes, or nearly every one."""
        check.check_size("page_size", request.page_size, self._limits.max_page)
        check.check_size("skip", getattr(request, "skip", 0), _MOST_SKIPPED)
        check.check_enum_if_given("filter_logic", getattr(request, "filter_logic", 0), pb.FilterLogic)

    def _lease(self, request: Any, default: timedelta | None, field: str = "lease_duration") -> int | None:
        """The lease asked for, in microseconds."""
        if not request.HasField("lease_duration"):
            return None if default is None else int(default.total_seconds() * 1_000_000)
        lease = timedelta(seconds=check.positive(field, request.lease_duration))
        if not self._limits.min_lease <= lease <= self._limits.max_lease:
            raise FieldInvalidError(field, lease, f"{self._limits.min_lease} to {self._limits.max_lease}")
        return int(lease.total_seconds() * 1_000_000)

    def _wait_seconds(self, asked: Duration, context: Context) -> float:
        """As long as asked and allowed, and answered before the caller's own deadline."""
        seconds = check.waiting(asked, self._limits.max_wait.total_seconds())
        remaining = context.time_remaining()
        return seconds if remaining is None else max(0.0, min(seconds, remaining - 0.2))


def _duration(value: timedelta) -> Duration:
    message = Duration()
    message.FromTimedelta(value)
    return message


def _with_input(request: pb.UpdateRolloutRequest) -> Any:
    """The rollout of an update as it is checked: a task that is not being changed is not looked at."""
    if "input_json" in request.update_mask.paths:
        return request.rollout
    checked = type(request.rollout)()
    checked.CopyFrom(request.rollout)
    checked.input_json = "null"
    return checked
