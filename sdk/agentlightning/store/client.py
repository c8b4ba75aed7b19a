"""The store over gRPC: `LightningStore` as calls of the protocol. Knows no runner and no algorithm."""

import logging
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from google.protobuf.field_mask_pb2 import FieldMask
from pydantic import ValidationError

from agentlightning.address import DEFAULT_PORT, parse_address
from agentlightning.errors import InvalidRequestError, NotFoundError, StoreError
from agentlightning.store import convert, gathering, lists, pages, sending
from agentlightning.store.arguments import checked
from agentlightning.store.base import FilterLogic, LightningStore, OnLost, SortOrder
from agentlightning.store.connection import connection_to, run, stream
from agentlightning.store.leases import Leases
from agentlightning.store.spans import fill_span, span_from_proto
from agentlightning.store.streams import Watch, wait
from agentlightning.store.wording import in_parameters
from agentlightning.types import (
    UNSET,
    Attempt,
    AttemptedRollout,
    AttemptStatus,
    Backup,
    Change,
    DeletedRollouts,
    EnqueueRolloutRequest,
    Failure,
    LightningStoreCapabilities,
    LightningStoreStatistics,
    PaginatedResult,
    ResourcesUpdate,
    Rollout,
    RolloutConfig,
    RolloutMode,
    RolloutStatus,
    Run,
    RunStatus,
    Span,
    Unset,
    Worker,
    WorkerStatus,
)
from agentlightning.v1 import attempt_pb2, resources_pb2, rollout_pb2, run_pb2, span_pb2
from agentlightning.v1 import store_service_pb2 as pb

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

T = TypeVar("T")

_log = logging.getLogger(__name__)
_MAX_WAIT = 60.0
_LONG_CALL = 3600.0
_UNREADABLE = attempt_pb2.FailureKind.FAILURE_KIND_INFRASTRUCTURE
_ROLLOUT_FIELDS = {None: "create_time", "start_time": "create_time"}
_SPAN_FIELDS = {None: "sequence_id", "parent_id": "parent_span_id"}


@checked
class LightningStoreClient(LightningStore):
    """A store at an address: usable from any event loop, any thread or none, and picklable.

    gRPC does not live through a fork: a process that has talked to a store should start others by spawning, not by
    forking. A client that has not talked yet may be forked with its process.

    Args:
        server_address: `host:port`, alone or after `http://` or `grpc://`, or over TLS after `https://` or `grpcs://`.
        retry_seconds: How long to try again while the store cannot be reached. Every call is safe to repeat.
        run_id: The run that this client enqueues for and reads from. None: no run.
        queue: The queue that it enqueues to and dequeues from.

    Raises:
        InvalidRequestError: The address is not one.

    Example:
        >>> import asyncio
        >>> import agentlightning as agl
        >>> async def main() -> list[agl.Rollout]:
        ...     store = agl.LightningStoreClient(address)  # such as "localhost:4747"
        ...     rollout = await store.enqueue_rollout({"question": "Why?"})
        ...     await store.cancel_rollouts([rollout.rollout_id])
        ...     return await store.wait_for_rollouts([rollout.rollout_id], timeout=60)
        >>> asyncio.run(main())[0].status
        'cancelled'
    """

    def __init__(
        self,
        server_address: str = f"localhost:{DEFAULT_PORT}",
        *,
        retry_seconds: float = 60.0,
        run_id: str | None = None,
        queue: str | None = None,
    ) -> None:
        parse_address(server_address)
        self.server_address = server_address
        self.retry_seconds = retry_seconds
        self.run_id = run_id
        self.queue = queue
        self._leases: Leases | None = None

    def __reduce__(self) -> Any:
        return _client, (self.server_address, self.retry_seconds, self.run_id, self.queue)

    def __repr__(self) -> str:
        bound = "".join(f", {name}={value!r}" for name in ("run_id", "queue") if (value := getattr(self, name)))
        return f"LightningStoreClient({self.server_address!r}{bound})"

    def bind(self, *, run_id: str | None = None, queue: str | None = None) -> "LightningStoreClient":
        """The same store, for one run and queue."""
        return _client(self.server_address, self.retry_seconds, run_id or self.run_id, queue or self.queue)

    async def close(self) -> None:
        """Stop renewing leases."""
        if self._leases is not None:
            await run(self._close_leases())
            self._leases = None

    @property
    def capabilities(self) -> LightningStoreCapabilities:
        return {"thread_safe": True, "async_safe": True, "zero_copy": True, "otlp_traces": True}

    def otlp_traces_endpoint(self) -> str:
        target, secure = parse_address(self.server_address)
        return f"{'https' if secure else 'http'}://{target}"

    async def enqueue_rollout(
        self,
        input: Any,
        mode: RolloutMode | None = None,
        resources_id: str | None = None,
        config: RolloutConfig | None = None,
        metadata: dict[str, Any] | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        priority: int = 0,
    ) -> Rollout:
        request = _wanted(
            input=input,
            mode=mode,
            resources_id=resources_id,
            config=config,
            metadata=metadata,
            labels=dict(labels or {}),
            priority=priority,
        )
        return (await self.enqueue_many_rollouts([request]))[0]

    async def enqueue_many_rollouts(self, rollouts: Sequence[EnqueueRolloutRequest]) -> list[Rollout]:
        enqueued: list[Rollout] = []
        for batch in sending.batches(map(self._rollout, rollouts)):
            answer = await self._call(
                "EnqueueRollouts", pb.EnqueueRolloutsRequest(rollouts=batch, request_id=_new_id())
            )
            enqueued += map(convert.rollout_from_proto, answer.rollouts)
        return enqueued

    async def start_rollout(
        self,
        input: Any,
        mode: RolloutMode | None = None,
        resources_id: str | None = None,
        config: RolloutConfig | None = None,
        metadata: dict[str, Any] | None = None,
        worker_id: str | None = None,
    ) -> AttemptedRollout:
        rollout = self._rollout(
            _wanted(input=input, mode=mode, resources_id=resources_id, config=config, metadata=metadata)
        )
        request = pb.StartRolloutRequest(rollout=rollout, worker_id=worker_id or "", request_id=_new_id())
        return convert.assignment_from_proto((await self._call("StartRollout", request)).assignment)

    async def start_attempt(self, rollout_id: str, worker_id: str | None = None) -> AttemptedRollout:
        request = pb.StartAttemptRequest(rollout_id=rollout_id, worker_id=worker_id or "", request_id=_new_id())
        return convert.assignment_from_proto((await self._call("StartAttempt", request)).assignment)

    async def dequeue_rollout(
        self, worker_id: str | None = None, *, wait_seconds: float = 0.0, on_lost: OnLost | None = None
    ) -> AttemptedRollout | None:
        claimed = await self.dequeue_many_rollouts(worker_id=worker_id, wait_seconds=wait_seconds, on_lost=on_lost)
        return claimed[0] if claimed else None

    async def dequeue_many_rollouts(
        self, *, limit: int = 1, worker_id: str | None = None, wait_seconds: float = 0.0, on_lost: OnLost | None = None
    ) -> list[AttemptedRollout]:
        if limit <= 0:
            return []
        request = pb.DequeueRolloutsRequest(
            worker_id=worker_id or "",
            queue=self.queue or "",
            max_rollouts=min(limit, sending.MAX_BATCH),
            wait_timeout=convert.duration("wait_seconds", min(wait_seconds, _MAX_WAIT)),
            request_id=_new_id(),
        )
        return await run(self._dequeue(request, on_lost), undo=self._release)

    async def complete_attempt(
        self,
        rollout_id: str,
        attempt_id: str,
        *,
        failure: Failure | None = None,
        spans: Sequence[Span] = (),
        lost_span_count: int = 0,
    ) -> Rollout:
        succeeded = pb.CompleteAttemptRequest.Succeeded() if failure is None else None
        request = pb.CompleteAttemptRequest(
            rollout_id=rollout_id,
            attempt_id=attempt_id,
            succeeded=succeeded,
            failure=None if failure is None else convert.failure_to_proto(failure),
            lost_span_count=lost_span_count,
        )
        for span in spans:
            fill_span(request.spans.add(), span)
        *before, last = [*sending.batches(request.spans)] or [[]]
        for batch in before:
            results = await run(self._add_spans(batch))
            sending.raise_if_refused([sending.refusal(result) for result in results if result.error_reason])
        del request.spans[: len(spans) - len(last)]
        answer = await run(self._complete(request))
        return convert.rollout_from_proto(answer.rollout)

    async def release_attempts(self, claimed: Sequence[AttemptedRollout]) -> None:
        await run(self._release(claimed))

    async def cancel_rollouts(self, rollout_ids: Sequence[str]) -> list[Rollout]:
        answer = await self._call("CancelRollouts", pb.CancelRolloutsRequest(rollout_ids=rollout_ids))
        return [convert.rollout_from_proto(rollout) for rollout in answer.rollouts]

    async def update_rollout(
        self,
        rollout_id: str,
        input: Any | Unset = UNSET,
        mode: RolloutMode | Unset | None = UNSET,
        resources_id: str | Unset | None = UNSET,
        status: RolloutStatus | Unset = UNSET,
        config: RolloutConfig | Unset = UNSET,
        metadata: dict[str, Any] | Unset | None = UNSET,
    ) -> Rollout:
        changes = _given(
            input_json=(input, partial(convert.to_json, "input")),
            mode=(mode, convert.mode_to_proto),
            resources_id=(resources_id, lambda value: value or ""),
            status=(status, convert.rollout_status_to_proto),
            config=(config, convert.config_to_proto),
            metadata_json=(metadata, _metadata_json),
        )
        request = pb.UpdateRolloutRequest(
            rollout=rollout_pb2.Rollout(rollout_id=rollout_id, **changes), update_mask=FieldMask(paths=changes)
        )
        try:
            return convert.rollout_from_proto((await self._call("UpdateRollout", request)).rollout)
        except NotFoundError as error:
            # Code that was written for the stores before this one looks for these words, in this call only.
            message = f"Item {rollout_id} does not exist: {error}"
            raise NotFoundError(message, code=error.code, reason=error.reason, metadata=error.metadata) from None

    async def update_attempt(
        self,
        rollout_id: str,
        attempt_id: str | Literal["latest"],
        status: AttemptStatus | Unset = UNSET,
        worker_id: str | Unset = UNSET,
        last_heartbeat_time: float | Unset = UNSET,
        metadata: dict[str, Any] | Unset | None = UNSET,
    ) -> Attempt:
        changes = _given(
            status=(status, convert.attempt_status_to_proto),
            worker_id=(worker_id, str),
            last_heartbeat_time=(last_heartbeat_time, partial(convert.timestamp, "last_heartbeat_time")),
            metadata_json=(metadata, _metadata_json),
        )
        request = pb.UpdateAttemptRequest(
            attempt=attempt_pb2.Attempt(rollout_id=rollout_id, attempt_id=attempt_id, **changes),
            update_mask=FieldMask(paths=changes),
        )
        return convert.attempt_from_proto((await run(self._update_attempt(request))).attempt)

    async def get_rollout_by_id(self, rollout_id: str) -> Rollout | AttemptedRollout | None:
        answer = await self._find("GetRollout", pb.GetRolloutRequest(rollout_id=rollout_id))
        return None if answer is None else convert.rollout_from_proto(answer.rollout)

    async def query_rollouts(
        self,
        rollout_ids: Sequence[str] | None = None,
        *,
        status_in: Sequence[RolloutStatus] | None = None,
        rollout_id_in: Sequence[str] | None = None,
        rollout_id_contains: str | None = None,
        filter_logic: FilterLogic = "and",
        mode: RolloutMode | None = None,
        labels: Mapping[str, str] | None = None,
        queue: str | None = None,
        min_final_reward: float | None = None,
        max_final_reward: float | None = None,
        sort_by: str | None = None,
        sort_order: SortOrder = "asc",
        limit: int = -1,
        offset: int = 0,
        status: Sequence[RolloutStatus] | None = None,
    ) -> PaginatedResult[Rollout | AttemptedRollout]:
        ids = rollout_id_in if rollout_id_in is not None else rollout_ids
        statuses = status_in if status_in is not None else status
        if lists.matches_nothing(filter_logic, [ids, statuses], rollout_id_contains):
            return PaginatedResult([], limit=limit, offset=offset, total=0)
        asked_by_id = bool(ids) and filter_logic == "and"
        request = pb.ListRolloutsRequest(
            statuses=map(convert.rollout_status_to_proto, statuses or ()),
            rollout_ids=ids or (),
            rollout_id_contains=rollout_id_contains or "",
            filter_logic=lists.logic(filter_logic),
            run_id="" if asked_by_id else self.run_id or "",
            mode=convert.mode_to_proto(mode),
            labels=labels or {},
            queue=lists.exactly("queue", queue),
            min_final_reward=min_final_reward,
            max_final_reward=max_final_reward,
            order_by=lists.order(_ROLLOUT_FIELDS.get(sort_by) or str(sort_by), sort_order),
        )
        return await self._list("ListRollouts", request, "rollouts", convert.rollout_from_proto, limit, offset)

    async def iter_rollouts(
        self,
        *,
        status_in: Sequence[RolloutStatus] | None = None,
        mode: RolloutMode | None = None,
        labels: Mapping[str, str] | None = None,
        queue: str | None = None,
        sort_order: SortOrder = "asc",
    ) -> AsyncGenerator[Rollout | AttemptedRollout, None]:
        if lists.matches_nothing("and", [status_in], None):
            return
        request = pb.ListRolloutsRequest(
            statuses=map(convert.rollout_status_to_proto, status_in or ()),
            run_id=self.run_id or "",
            mode=convert.mode_to_proto(mode),
            labels=labels or {},
            queue=lists.exactly("queue", queue),
            order_by=lists.order("create_time", sort_order),
        )
        asked = partial(self._call, "ListRollouts")
        async with aclosing(pages.each(asked, request, "rollouts", convert.rollout_from_proto)) as found:
            async for rollout in found:
                yield rollout

    async def query_attempts(
        self,
        rollout_id: str,
        *,
        sort_by: str | None = "sequence_id",
        sort_order: SortOrder = "asc",
        limit: int = -1,
        offset: int = 0,
    ) -> PaginatedResult[Attempt]:
        request = pb.ListAttemptsRequest(
            rollout_id=rollout_id, order_by=lists.order(sort_by or "sequence_id", sort_order)
        )
        return await self._list("ListAttempts", request, "attempts", convert.attempt_from_proto, limit, offset)

    async def get_latest_attempt(self, rollout_id: str) -> Attempt | None:
        rollout = await self.get_rollout_by_id(rollout_id)
        return rollout.attempt if isinstance(rollout, AttemptedRollout) else None

    async def wait_for_rollouts(
        self, rollout_ids: Sequence[str], timeout: float | None = None, *, any_of: bool = False
    ) -> list[Rollout]:
        found: dict[str, Rollout] = {}

        def emit(rollout: Rollout) -> None:
            found[rollout.rollout_id] = rollout

        await run(self._wait(rollout_ids, emit, timeout=timeout, any_of=any_of))
        return [found[rollout_id] for rollout_id in rollout_ids if rollout_id in found]

    def iter_finished(self, rollout_ids: Sequence[str], timeout: float | None = None) -> AsyncIterator[Rollout]:
        return stream(lambda emit: self._wait(rollout_ids, emit, timeout=timeout))

    async def add_span(self, span: Span) -> Span | None:
        [outcome] = await self._store_spans([span])
        if isinstance(outcome, StoreError):
            raise outcome
        if outcome is None:
            ids = f"rollout {span.rollout_id}, attempt {span.attempt_id}, span {span.span_id}"
            _log.error("Duplicated span added: %s; the first one is kept", ids)
        return outcome

    async def add_many_spans(self, spans: Sequence[Span]) -> list[Span]:
        outcomes = await self._store_spans(spans)
        sending.raise_if_refused([outcome for outcome in outcomes if isinstance(outcome, StoreError)])
        return [outcome for outcome in outcomes if isinstance(outcome, Span)]

    async def add_otel_span(
        self, rollout_id: str, attempt_id: str, readable_span: "ReadableSpan", sequence_id: int | None = None
    ) -> Span | None:
        if not hasattr(readable_span, "get_span_context"):
            raise convert.invalid("readable_span", readable_span, "a span of OpenTelemetry's SDK; add_span takes ours")
        if sequence_id is None:
            sequence_id = await self.get_next_span_sequence_id(rollout_id, attempt_id)
        return await self.add_span(
            Span.from_opentelemetry(
                readable_span, rollout_id=rollout_id, attempt_id=attempt_id, sequence_id=sequence_id
            )
        )

    async def query_spans(
        self,
        rollout_id: str,
        attempt_id: str | Literal["latest"] | None = None,
        *,
        trace_id: str | None = None,
        trace_id_contains: str | None = None,
        span_id: str | None = None,
        span_id_contains: str | None = None,
        parent_id: str | None = None,
        parent_id_contains: str | None = None,
        name: str | None = None,
        name_contains: str | None = None,
        filter_logic: FilterLogic = "and",
        limit: int = -1,
        offset: int = 0,
        sort_by: str | None = "sequence_id",
        sort_order: SortOrder = "asc",
    ) -> PaginatedResult[Span]:
        request = pb.ListSpansRequest(
            rollout_id=rollout_id,
            attempt_id=attempt_id or "",
            trace_id=lists.exactly("trace_id", trace_id),
            trace_id_contains=trace_id_contains or "",
            span_id=lists.exactly("span_id", span_id),
            span_id_contains=span_id_contains or "",
            parent_span_id=lists.exactly("parent_id", parent_id),
            parent_span_id_contains=parent_id_contains or "",
            name=lists.exactly("name", name),
            name_contains=name_contains or "",
            filter_logic=lists.logic(filter_logic),
            order_by=lists.order(_SPAN_FIELDS.get(sort_by) or str(sort_by), sort_order),
        )
        return await self._list("ListSpans", request, "spans", span_from_proto, limit, offset)

    async def get_next_span_sequence_id(self, rollout_id: str, attempt_id: str) -> int:
        return (await self.get_many_span_sequence_ids([(rollout_id, attempt_id)]))[0]

    async def get_many_span_sequence_ids(self, rollout_attempt_ids: Sequence[tuple[str, str]]) -> list[int]:
        rollout_ids = [rollout_id for rollout_id, _ in rollout_attempt_ids]
        sequence_ids: list[int] = []
        for start in range(0, len(rollout_ids), sending.MAX_BATCH):
            request = pb.ReserveSequenceIdsRequest(rollout_ids=rollout_ids[start : start + sending.MAX_BATCH])
            sequence_ids += (await self._call("ReserveSequenceIds", request)).sequence_ids
        return sequence_ids

    async def add_resources(
        self, resources: Mapping[str, Any], *, parent: ResourcesUpdate | None = None
    ) -> ResourcesUpdate:
        message = resources_pb2.Resources(
            run_id=self.run_id or "",
            resources=convert.resources_to_proto(resources),
            parent_resources_id="" if parent is None else parent.resources_id,
            parent_version=0 if parent is None else parent.version,
        )
        answer = await self._call("AddResources", pb.AddResourcesRequest(resources=message, request_id=_new_id()))
        return convert.resources_from_proto(answer.resources)

    async def update_resources(self, resources_id: str, resources: Mapping[str, Any]) -> ResourcesUpdate:
        message = resources_pb2.Resources(
            resources_id=resources_id, run_id=self.run_id or "", resources=convert.resources_to_proto(resources)
        )
        answer = await self._call("UpdateResources", pb.UpdateResourcesRequest(resources=message, request_id=_new_id()))
        return convert.resources_from_proto(answer.resources)

    async def get_resources_by_id(self, resources_id: str, version: int | None = None) -> ResourcesUpdate | None:
        if not resources_id:
            return None  # which the wire would take as the latest
        return await self._resources(pb.GetResourcesRequest(resources_id=resources_id, version=version or 0))

    async def get_latest_resources(self) -> ResourcesUpdate | None:
        return await self._resources(pb.GetResourcesRequest(run_id=self.run_id or ""))

    async def query_resources(
        self,
        *,
        resources_id: str | None = None,
        resources_id_contains: str | None = None,
        all_versions: bool = False,
        sort_by: str | None = None,
        sort_order: SortOrder = "asc",
        limit: int = -1,
        offset: int = 0,
    ) -> PaginatedResult[ResourcesUpdate]:
        request = pb.ListResourcesRequest(
            resources_id=lists.exactly("resources_id", resources_id),
            resources_id_contains=resources_id_contains or "",
            run_id="" if resources_id else self.run_id or "",
            all_versions=all_versions,
            order_by=lists.order(sort_by or "revision", sort_order),
        )
        return await self._list("ListResources", request, "resources", convert.resources_from_proto, limit, offset)

    async def create_run(
        self,
        algorithm: str,
        *,
        config: Any = None,
        queue: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Run:
        message = run_pb2.Run(
            algorithm=algorithm,
            config_json=convert.to_json("config", config),
            queue=queue or "",
            labels=labels or {},
        )
        answer = await self._call("CreateRun", pb.CreateRunRequest(run=message, request_id=_new_id()))
        return convert.run_from_proto(answer.run)

    async def update_run(
        self,
        run_id: str,
        *,
        status: RunStatus | Unset = UNSET,
        checkpoint: Any | Unset = UNSET,
        summary: Any | Unset = UNSET,
        best_resources: ResourcesUpdate | Unset | None = UNSET,
        failure: Failure | Unset | None = UNSET,
        if_revision: int | None = None,
    ) -> Run:
        changes = _given(
            status=(status, convert.run_status_to_proto),
            checkpoint_json=(checkpoint, partial(convert.to_json, "checkpoint")),
            summary_json=(summary, partial(convert.to_json, "summary")),
            best_resources_id=(best_resources, lambda value: "" if value is None else value.resources_id),
            best_resources_version=(best_resources, lambda value: 0 if value is None else value.version),
            failure=(failure, lambda value: None if value is None else convert.failure_to_proto(value)),
        )
        request = pb.UpdateRunRequest(
            run=run_pb2.Run(run_id=run_id, **changes),
            update_mask=FieldMask(paths=changes),
            if_revision=if_revision or 0,
        )
        return convert.run_from_proto((await self._call("UpdateRun", request)).run)

    async def get_run(self, run_id: str) -> Run | None:
        answer = await self._find("GetRun", pb.GetRunRequest(run_id=run_id))
        return None if answer is None else convert.run_from_proto(answer.run)

    async def query_runs(
        self,
        *,
        status: RunStatus | None = None,
        algorithm: str | None = None,
        labels: Mapping[str, str] | None = None,
        limit: int = -1,
    ) -> PaginatedResult[Run]:
        request = pb.ListRunsRequest(
            statuses=[] if status is None else [convert.run_status_to_proto(status)],
            algorithm=lists.exactly("algorithm", algorithm),
            labels=labels or {},
        )
        found, _ = await pages.read(partial(self._call, "ListRuns"), request, "runs", convert.run_from_proto, limit)
        return PaginatedResult(found, limit=limit, offset=0, total=len(found))

    async def update_worker(self, worker_id: str, heartbeat_stats: dict[str, Any] | Unset = UNSET) -> Worker:
        stats = "" if isinstance(heartbeat_stats, Unset) else convert.to_json_object("heartbeat_stats", heartbeat_stats)
        request = pb.UpdateWorkerRequest(worker_id=worker_id, heartbeat_stats_json=stats)
        return convert.worker_from_proto((await self._call("UpdateWorker", request)).worker)

    async def get_worker_by_id(self, worker_id: str) -> Worker | None:
        answer = await self._find("GetWorker", pb.GetWorkerRequest(worker_id=worker_id))
        return None if answer is None else convert.worker_from_proto(answer.worker)

    async def query_workers(
        self,
        *,
        status_in: Sequence[WorkerStatus] | None = None,
        worker_id_contains: str | None = None,
        filter_logic: FilterLogic = "and",
        sort_by: str | None = None,
        sort_order: SortOrder = "asc",
        limit: int = -1,
        offset: int = 0,
    ) -> PaginatedResult[Worker]:
        if lists.matches_nothing(filter_logic, [status_in], worker_id_contains):
            return PaginatedResult([], limit=limit, offset=offset, total=0)
        request = pb.ListWorkersRequest(
            statuses=map(convert.worker_status_to_proto, status_in or ()),
            worker_id_contains=worker_id_contains or "",
            filter_logic=lists.logic(filter_logic),
            order_by=lists.order(sort_by or "worker_id", sort_order),
        )
        return await self._list("ListWorkers", request, "workers", convert.worker_from_proto, limit, offset)

    async def statistics(self) -> LightningStoreStatistics:
        counts = await self._call("GetStatistics", pb.GetStatisticsRequest())
        return convert.statistics_from_proto(type(self).__name__, counts)

    async def watch(self, after_revision: int = 0, *, queue: str | None = None) -> AsyncGenerator[Change, None]:
        request = pb.WatchRequest(after_revision=after_revision, run_id=self.run_id or "", queue=queue or "")
        watch = Watch(self.server_address, self.retry_seconds, request)
        try:
            while True:
                for change in await run(watch.next()):
                    yield change
        finally:
            await run(watch.close())

    async def delete_rollouts(
        self,
        rollout_ids: Sequence[str] | None = None,
        *,
        run_id: str | None = None,
        ended_for_seconds: float | None = None,
    ) -> DeletedRollouts:
        if rollout_ids is not None and not rollout_ids:
            return DeletedRollouts(deleted_count=0)
        request = pb.DeleteRolloutsRequest(
            rollout_ids=rollout_ids or (),
            run_id=run_id or self.run_id or "",
            ended_for=convert.duration("ended_for_seconds", ended_for_seconds),
        )
        answer = await self._call("DeleteRollouts", request, timeout=_LONG_CALL)
        return DeletedRollouts(
            deleted_count=answer.deleted_count,
            kept_rollout_ids=answer.kept_rollout_ids,
            unknown_rollout_ids=answer.unknown_rollout_ids,
        )

    async def backup(self, file_name: str | None = None) -> Backup:
        request = pb.BackupDatabaseRequest(file_name=file_name or "")
        answer = await self._call("BackupDatabase", request, timeout=_LONG_CALL)
        return Backup(path=answer.path, size_bytes=answer.size_bytes)

    async def _call(self, method: str, request: Any, **options: Any) -> Any:
        return await run(self._on_connection(method, request, **options))

    async def _find(self, method: str, request: Any) -> Any | None:
        try:
            return await self._call(method, request)
        except NotFoundError:
            return None

    async def _on_connection(self, method: str, request: Any, **options: Any) -> Any:
        connection = connection_to(self.server_address)
        return await connection.call(method, request, retry_seconds=self.retry_seconds, **options)

    async def _add_spans(self, batch: list[span_pb2.Span]) -> list[pb.AddSpansResponse.Result]:
        return await gathering.spans_to(self.server_address, self.retry_seconds).ask(batch)

    async def _dequeue(self, request: pb.DequeueRolloutsRequest, on_lost: OnLost | None) -> list[AttemptedRollout]:
        claimed = []
        for assignment in await self._claim(request):
            ref = pb.AttemptRef(rollout_id=assignment.attempt.rollout_id, attempt_id=assignment.attempt.attempt_id)
            try:
                claimed.append(convert.assignment_from_proto(assignment))
            except ValueError as error:  # as a newer store's may be; held by nobody, it would be renewed for ever
                _log.error("rollout %s cannot be read: %s", ref.rollout_id, error)
                failure = attempt_pb2.Failure(kind=_UNREADABLE, type=type(error).__name__, message=str(error))
                unreadable = pb.CompleteAttemptRequest(
                    rollout_id=ref.rollout_id, attempt_id=ref.attempt_id, failure=failure
                )
                await self._on_connection("CompleteAttempt", unreadable)
            else:
                interval = convert.seconds(assignment.heartbeat_interval)
                self._leases_here().hold(ref, interval, on_lost)
        return claimed

    async def _claim(self, request: pb.DequeueRolloutsRequest) -> Sequence[rollout_pb2.Assignment]:
        wait = convert.seconds(request.wait_timeout)
        if wait or request.max_rollouts > 1:
            answer = await self._on_connection("DequeueRollouts", request, timeout=wait + 30.0)
            return cast("pb.DequeueRolloutsResponse", answer).assignments
        claims = gathering.claims_of(self.server_address, self.retry_seconds, request.queue)
        return [assignment for assignment in await claims.ask([request]) if assignment is not None]

    async def _release(self, claimed: Sequence[AttemptedRollout]) -> None:
        """Give back what nobody is there to do."""
        for rollout in claimed:
            self._leases_here().drop(rollout.attempt.attempt_id)
        refs = (
            pb.AttemptRef(rollout_id=rollout.rollout_id, attempt_id=rollout.attempt.attempt_id) for rollout in claimed
        )
        for batch in sending.batches(refs):
            await self._on_connection("ReleaseAttempts", pb.ReleaseAttemptsRequest(attempts=batch))

    async def _complete(self, request: pb.CompleteAttemptRequest) -> Any:
        leases = self._leases_here()
        with leases.ending(request.attempt_id):
            try:
                return await gathering.completions_to(self.server_address, self.retry_seconds).complete(request)
            finally:
                leases.drop(request.attempt_id)

    async def _update_attempt(self, request: pb.UpdateAttemptRequest) -> Any:
        leases = self._leases_here()
        with leases.ending(request.attempt.attempt_id):
            answer = await self._on_connection("UpdateAttempt", request)
            if answer.attempt.HasField("end_time"):
                leases.drop(answer.attempt.attempt_id)
            return answer

    def _leases_here(self) -> Leases:
        """What this process holds. On the gRPC thread."""
        if self._leases is None or not self._leases.are_here:
            self._leases = Leases(self.server_address, self.retry_seconds)
        return self._leases

    async def _close_leases(self) -> None:
        await self._leases_here().close()

    async def _resources(self, request: pb.GetResourcesRequest) -> ResourcesUpdate | None:
        answer = await self._find("GetResources", request)
        return None if answer is None else convert.resources_from_proto(answer.resources)

    async def _wait(self, rollout_ids: Sequence[str], emit: Callable[[Rollout], None], **options: Any) -> None:
        await wait(self.server_address, self.retry_seconds, rollout_ids, emit, **options)

    async def _list(
        self, method: str, request: Any, field: str, model: Callable[[Any], T], limit: int, offset: int
    ) -> PaginatedResult[T]:
        """A page of a list that can be sorted, skipped and counted."""
        if offset < 0:
            raise convert.invalid("offset", offset, "0 or more")
        request.skip = offset
        request.count_total = counted = limit >= 0 or offset > 0
        items, first = await pages.read(partial(self._call, method), request, field, model, limit)
        return PaginatedResult(
            items,
            limit=limit,
            offset=offset,
            total=first.total_size if counted else len(items),
            revision=getattr(first, "revision", 0),
        )

    async def _store_spans(self, spans: Sequence[Span]) -> list[Span | StoreError | None]:
        """What became of each: the span as stored, None when it was stored before, or why it was refused."""
        messages = [sending.message_of(span) for span in spans]
        results: list[pb.AddSpansResponse.Result] = []
        for batch in sending.batches(message for message in messages if not isinstance(message, StoreError)):
            results += await run(self._add_spans(batch))
        answers = iter(results)
        return [
            message if isinstance(message, StoreError) else sending.outcome(span, next(answers))
            for span, message in zip(spans, messages, strict=True)
        ]

    def _rollout(self, request: EnqueueRolloutRequest) -> rollout_pb2.Rollout:
        return convert.rollout_to_proto(**dict(request), run_id=self.run_id, queue=self.queue)


def _client(server_address: str, retry_seconds: float, run_id: str | None, queue: str | None) -> LightningStoreClient:
    return LightningStoreClient(server_address, retry_seconds=retry_seconds, run_id=run_id, queue=queue)


def _given(**fields: tuple[Any, Callable[[Any], Any]]) -> dict[str, Any]:
    """The fields that are to change, as the wire has them: each a value and what translates it.

    Raises:
        InvalidRequestError: None is to change, or one cannot be what it is.
    """
    changes = {name: translate(value) for name, (value, translate) in fields.items() if not isinstance(value, Unset)}
    if not changes:
        known = ", ".join(dict.fromkeys(map(in_parameters, fields)))
        raise InvalidRequestError(
            f"nothing to change is given, expected at least one of {known}",
            code="INVALID_ARGUMENT",
            reason="FIELD_INVALID",
        )
    return changes


def _wanted(**fields: Any) -> EnqueueRolloutRequest:
    """One rollout to be enqueued.

    Raises:
        InvalidRequestError: A value cannot be what it is.
    """
    try:
        return EnqueueRolloutRequest(**fields)
    except ValidationError as error:
        wrong = error.errors()[0]
        field, expected = ".".join(map(str, wrong["loc"])), wrong["msg"].removeprefix("Input should be ")
        raise convert.invalid(field, wrong["input"], expected) from None


def _metadata_json(metadata: dict[str, Any] | None) -> str:
    return "" if metadata is None else convert.to_json_object("metadata", metadata)


def _new_id() -> str:
    return uuid.uuid4().hex
