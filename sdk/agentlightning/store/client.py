"""The store over gRPC: `LightningStore` as calls of the protocol. Knows no runner and no algorithm."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Literal, TypeVar

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from agentlightning.errors import InvalidRequestError, NotFoundError, StoreError
from agentlightning.store import convert
from agentlightning.store.base import LightningStore, OnLost
from agentlightning.store.connection import (
    DEFAULT_PORT,
    MAX_MESSAGE_BYTES,
    Backoff,
    connection_to,
    parse_address,
    run,
    stream,
)
from agentlightning.store.leases import Leases
from agentlightning.types import (
    UNSET,
    Attempt,
    AttemptedRollout,
    AttemptStatus,
    EnqueueRolloutRequest,
    Failure,
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
)
from agentlightning.v1 import attempt_pb2, resources_pb2, rollout_pb2, run_pb2, span_pb2
from agentlightning.v1 import store_service_pb2 as pb

T = TypeVar("T")
M = TypeVar("M", bound=Message)

_MAX_BATCH = 1000
_MAX_WAIT_IDS = 10_000
_MAX_BATCH_BYTES = MAX_MESSAGE_BYTES // 4
_MAX_WAIT = 60.0
_PAGE = 1000
_SORT_NAMES = {"start_time": "create_time"}


class LightningStoreClient(LightningStore):
    """A store at an address: usable from any event loop, any thread or none, picklable, fork-safe.

    Args:
        server_address: `host:port`, alone or after `http://` or `grpc://`, or over TLS after `https://` or `grpcs://`.
        retry_seconds: How long to try again while the store cannot be reached. Every call is safe to repeat.
        run_id: The run that this client enqueues for and reads from. None: no run.
        queue: The queue that it enqueues to and dequeues from.

    Raises:
        InvalidRequestError: The address is not one.
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
            await run(self._leases.close())
            self._leases = None

    async def enqueue_rollout(
        self,
        input: Any,
        mode: RolloutMode | None = None,
        resources_id: str | None = None,
        config: RolloutConfig | None = None,
        metadata: dict[str, Any] | None = None,
        *,
        labels: Mapping[str, str] | None = None,
    ) -> Rollout:
        request = EnqueueRolloutRequest(
            input=input,
            mode=mode,
            resources_id=resources_id,
            config=config,
            metadata=metadata,
            labels=dict(labels or {}),
        )
        return (await self.enqueue_many_rollouts([request]))[0]

    async def enqueue_many_rollouts(self, rollouts: Sequence[EnqueueRolloutRequest]) -> list[Rollout]:
        enqueued: list[Rollout] = []
        for batch in _batches(map(self._rollout, rollouts)):
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
            EnqueueRolloutRequest(input=input, mode=mode, resources_id=resources_id, config=config, metadata=metadata)
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
            max_rollouts=min(limit, _MAX_BATCH),
            wait_timeout=convert.duration(min(wait_seconds, _MAX_WAIT)),
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
        *before, last = [*_batches(map(convert.span_to_proto, spans))] or [[]]
        for batch in before:
            await self._call("AddSpans", pb.AddSpansRequest(spans=batch))
        succeeded = pb.CompleteAttemptRequest.Succeeded() if failure is None else None
        request = pb.CompleteAttemptRequest(
            rollout_id=rollout_id,
            attempt_id=attempt_id,
            succeeded=succeeded,
            failure=None if failure is None else convert.failure_to_proto(failure),
            spans=last,
            lost_span_count=lost_span_count,
        )
        try:
            answer = await self._call("CompleteAttempt", request)
        finally:
            await run(self._drop(attempt_id))
        return convert.rollout_from_proto(answer.rollout)

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
        return convert.rollout_from_proto((await self._call("UpdateRollout", request)).rollout)

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
            last_heartbeat_time=(last_heartbeat_time, convert.timestamp),
            metadata_json=(metadata, _metadata_json),
        )
        request = pb.UpdateAttemptRequest(
            attempt=attempt_pb2.Attempt(rollout_id=rollout_id, attempt_id=attempt_id, **changes),
            update_mask=FieldMask(paths=changes),
        )
        attempt = convert.attempt_from_proto((await self._call("UpdateAttempt", request)).attempt)
        if attempt.end_time is not None:
            await run(self._drop(attempt.attempt_id))
        return attempt

    async def get_rollout_by_id(self, rollout_id: str) -> Rollout | AttemptedRollout | None:
        answer = await self._find("GetRollout", pb.GetRolloutRequest(rollout_id=rollout_id))
        return None if answer is None else convert.rollout_from_proto(answer.rollout)

    async def query_rollouts(
        self,
        rollout_ids: Sequence[str] | None = None,
        *,
        status_in: Sequence[RolloutStatus] | None = None,
        rollout_id_in: Sequence[str] | None = None,
        mode: RolloutMode | None = None,
        labels: Mapping[str, str] | None = None,
        sort_by: str | None = None,
        sort_order: Literal["asc", "desc"] = "asc",
        limit: int = -1,
        offset: int = 0,
        status: Sequence[RolloutStatus] | None = None,
    ) -> PaginatedResult[Rollout | AttemptedRollout]:
        ids = rollout_id_in if rollout_id_in is not None else rollout_ids
        statuses = status_in if status_in is not None else status
        if (ids is not None and not ids) or (statuses is not None and not statuses):
            return PaginatedResult([], limit=limit, offset=offset, total=0)
        request = pb.ListRolloutsRequest(
            statuses=map(convert.rollout_status_to_proto, statuses or ()),
            rollout_ids=ids or (),
            run_id="" if ids else self.run_id or "",
            mode=convert.mode_to_proto(mode),
            labels=labels or {},
            order_by=f"{_SORT_NAMES.get(sort_by or '', sort_by or 'create_time')} {sort_order}",
            skip=offset,
            count_total=True,
        )
        items, first = await self._pages("ListRollouts", request, "rollouts", limit)
        found = [convert.rollout_from_proto(rollout) for rollout in items]
        return PaginatedResult(found, limit=limit, offset=offset, total=first.total_size)

    async def query_attempts(self, rollout_id: str) -> PaginatedResult[Attempt]:
        items, _ = await self._pages("ListAttempts", pb.ListAttemptsRequest(rollout_id=rollout_id), "attempts")
        return _everything([convert.attempt_from_proto(attempt) for attempt in items])

    async def get_latest_attempt(self, rollout_id: str) -> Attempt | None:
        rollout = await self.get_rollout_by_id(rollout_id)
        return rollout.attempt if isinstance(rollout, AttemptedRollout) else None

    async def wait_for_rollouts(self, rollout_ids: Sequence[str], timeout: float | None = None) -> list[Rollout]:
        found: dict[str, Rollout] = {}

        async def wait() -> None:
            await self._wait(rollout_ids, timeout, lambda rollout: found.__setitem__(rollout.rollout_id, rollout))

        await run(wait())
        return [found[rollout_id] for rollout_id in rollout_ids if rollout_id in found]

    def iter_finished(self, rollout_ids: Sequence[str], timeout: float | None = None) -> AsyncIterator[Rollout]:
        return stream(lambda emit: self._wait(rollout_ids, timeout, emit))

    async def add_span(self, span: Span) -> Span | None:
        stored = await self.add_many_spans([span])
        return stored[0] if stored else None

    async def add_many_spans(self, spans: Sequence[Span]) -> list[Span]:
        stored: list[Span] = []
        refusals: list[pb.AddSpansResponse.Result] = []
        remaining = iter(spans)
        for batch in _batches(map(convert.span_to_proto, spans)):
            answer, is_repeat = await run(self._add_spans(batch))
            for span, result in zip(remaining, answer.results, strict=False):
                if result.error_reason:
                    refusals.append(result)
                elif is_repeat or not result.duplicate:
                    stored.append(span.model_copy(update={"sequence_id": result.sequence_id}))
        if refusals:
            raise _refused_span(refusals)
        return stored

    async def query_spans(
        self, rollout_id: str, attempt_id: str | Literal["latest"] | None = None, *, name: str | None = None
    ) -> PaginatedResult[Span]:
        request = pb.ListSpansRequest(rollout_id=rollout_id, attempt_id=attempt_id or "", name=name or "")
        items, _ = await self._pages("ListSpans", request, "spans")
        return _everything([convert.span_from_proto(span) for span in items])

    async def get_next_span_sequence_id(self, rollout_id: str, attempt_id: str) -> int:
        answer = await self._call("ReserveSequenceIds", pb.ReserveSequenceIdsRequest(rollout_ids=[rollout_id]))
        return int(answer.sequence_ids[0])

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
        return await self._resources(pb.GetResourcesRequest(resources_id=resources_id, version=version or 0))

    async def get_latest_resources(self) -> ResourcesUpdate | None:
        return await self._resources(pb.GetResourcesRequest(run_id=self.run_id or ""))

    async def query_resources(self, resources_id: str | None = None) -> PaginatedResult[ResourcesUpdate]:
        request = pb.ListResourcesRequest(
            resources_id=resources_id or "", run_id=self.run_id or "", all_versions=bool(resources_id)
        )
        items, _ = await self._pages("ListResources", request, "resources")
        return _everything([convert.resources_from_proto(resources) for resources in items])

    async def create_run(self, algorithm: str, *, config: Any = None, queue: str | None = None) -> Run:
        message = run_pb2.Run(algorithm=algorithm, config_json=convert.to_json("config", config), queue=queue or "")
        answer = await self._call("CreateRun", pb.CreateRunRequest(run=message, request_id=_new_id()))
        return convert.run_from_proto(answer.run)

    async def update_run(
        self,
        run_id: str,
        *,
        status: RunStatus | Unset = UNSET,
        checkpoint: Any | Unset = UNSET,
        summary: Any | Unset = UNSET,
        best_resources: ResourcesUpdate | Unset = UNSET,
        failure: Failure | Unset = UNSET,
    ) -> Run:
        changes = _given(
            status=(status, convert.run_status_to_proto),
            checkpoint_json=(checkpoint, partial(convert.to_json, "checkpoint")),
            summary_json=(summary, partial(convert.to_json, "summary")),
            best_resources_id=(best_resources, attrgetter("resources_id")),
            best_resources_version=(best_resources, attrgetter("version")),
            failure=(failure, convert.failure_to_proto),
        )
        request = pb.UpdateRunRequest(run=run_pb2.Run(run_id=run_id, **changes), update_mask=FieldMask(paths=changes))
        return convert.run_from_proto((await self._call("UpdateRun", request)).run)

    async def get_run(self, run_id: str) -> Run | None:
        answer = await self._find("GetRun", pb.GetRunRequest(run_id=run_id))
        return None if answer is None else convert.run_from_proto(answer.run)

    async def query_runs(self) -> PaginatedResult[Run]:
        items, _ = await self._pages("ListRuns", pb.ListRunsRequest(), "runs")
        return _everything([convert.run_from_proto(message) for message in items])

    async def update_worker(self, worker_id: str, heartbeat_stats: dict[str, Any] | None = None) -> Worker:
        stats = "" if heartbeat_stats is None else convert.to_json("heartbeat_stats", heartbeat_stats)
        request = pb.UpdateWorkerRequest(worker_id=worker_id, heartbeat_stats_json=stats)
        return convert.worker_from_proto((await self._call("UpdateWorker", request)).worker)

    async def get_worker_by_id(self, worker_id: str) -> Worker | None:
        answer = await self._find("GetWorker", pb.GetWorkerRequest(worker_id=worker_id))
        return None if answer is None else convert.worker_from_proto(answer.worker)

    async def query_workers(self) -> PaginatedResult[Worker]:
        items, _ = await self._pages("ListWorkers", pb.ListWorkersRequest(), "workers")
        return _everything([convert.worker_from_proto(worker) for worker in items])

    async def statistics(self) -> dict[str, Any]:
        counts = await self._call("GetStatistics", pb.GetStatisticsRequest())
        statuses = {
            convert.enum_name(rollout_pb2.RolloutStatus, "ROLLOUT_STATUS_", entry.status): entry.count
            for entry in counts.rollouts
        }
        return {
            "name": type(self).__name__,
            "total_rollouts": sum(statuses.values()),
            "total_attempts": counts.attempt_count,
            "total_spans": counts.span_count,
            "total_resources": counts.resources_count,
            "total_workers": counts.worker_count,
            "total_runs": counts.run_count,
            "rollouts_by_status": statuses,
            "queued": {entry.queue: entry.queued_count for entry in counts.queues},
        }

    async def _call(self, method: str, request: Any) -> Any:
        return await run(self._on_connection(method, request))

    async def _find(self, method: str, request: Any) -> Any | None:
        try:
            return await self._call(method, request)
        except NotFoundError:
            return None

    async def _on_connection(self, method: str, request: Any) -> Any:
        return await connection_to(self.server_address).call(method, request, retry_seconds=self.retry_seconds)

    async def _add_spans(self, batch: list[span_pb2.Span]) -> tuple[pb.AddSpansResponse, bool]:
        """The answer, and whether it is a repeat's: spans it calls duplicates are then the first call's own."""
        return await connection_to(self.server_address).call_or_repeat(
            "AddSpans", pb.AddSpansRequest(spans=batch), retry_seconds=self.retry_seconds
        )

    async def _dequeue(self, request: pb.DequeueRolloutsRequest, on_lost: OnLost | None) -> list[AttemptedRollout]:
        wait = convert.seconds(request.wait_timeout)
        answer = await connection_to(self.server_address).call(
            "DequeueRollouts", request, retry_seconds=self.retry_seconds, timeout=wait + 30.0
        )
        if answer.assignments and self._leases is None:
            self._leases = Leases(self.server_address, self.retry_seconds)
        for assignment in answer.assignments:
            assert self._leases is not None
            attempt = assignment.attempt
            ref = pb.AttemptRef(rollout_id=attempt.rollout_id, attempt_id=attempt.attempt_id)
            self._leases.hold(ref, convert.seconds(assignment.heartbeat_interval), on_lost)
        return [convert.assignment_from_proto(assignment) for assignment in answer.assignments]

    async def _release(self, claimed: list[AttemptedRollout]) -> None:
        """Give back what nobody is there to do."""
        for rollout in claimed:
            await self._drop(rollout.attempt.attempt_id)
        refs = [
            pb.AttemptRef(rollout_id=rollout.rollout_id, attempt_id=rollout.attempt.attempt_id) for rollout in claimed
        ]
        await self._on_connection("ReleaseAttempts", pb.ReleaseAttemptsRequest(attempts=refs))

    async def _drop(self, attempt_id: str) -> None:
        if self._leases is not None:
            self._leases.drop(attempt_id)

    async def _pages(self, method: str, request: Any, field: str, limit: int = -1) -> tuple[list[Any], Any]:
        """All the items of a list, or the first `limit`, and the first page's answer."""
        items: list[Any] = []
        first = None
        while True:
            request.page_size = _PAGE if limit < 0 else max(1, min(_PAGE, limit - len(items)))
            answer = await self._call(method, request)
            first = first or answer
            items += getattr(answer, field)
            if not answer.next_page_token or 0 <= limit <= len(items):
                return items if limit < 0 else items[:limit], first
            request.page_token = answer.next_page_token
            if "skip" in request.DESCRIPTOR.fields_by_name:
                request.skip, request.count_total = 0, False

    async def _resources(self, request: pb.GetResourcesRequest) -> ResourcesUpdate | None:
        answer = await self._find("GetResources", request)
        return None if answer is None else convert.resources_from_proto(answer.resources)

    async def _wait(self, rollout_ids: Sequence[str], timeout: float | None, emit: Callable[[Rollout], None]) -> None:
        """Emit each rollout once it is terminal, taking the wait up again where it broke. On the gRPC thread."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        backoff = Backoff(self.retry_seconds)
        pending = dict.fromkeys(rollout_ids)
        while pending:
            left = None if deadline is None else max(0.0, deadline - loop.time())
            ids = list(pending)[:_MAX_WAIT_IDS]
            request = pb.WaitRolloutsRequest(rollout_ids=ids, wait_timeout=convert.duration(left))
            call = connection_to(self.server_address).stub.WaitRollouts(request)
            try:
                async for message in call:
                    backoff.reset()
                    for rollout_id in (*message.unknown_rollout_ids, *(r.rollout_id for r in message.rollouts)):
                        pending.pop(rollout_id, None)
                    for rollout in message.rollouts:
                        emit(convert.rollout_from_proto(rollout))
            except grpc.aio.AioRpcError as error:
                await backoff.pause_or_raise(error, self.server_address)
            else:
                for rollout_id in ids:  # those that are left were not terminal in time
                    pending.pop(rollout_id, None)
            finally:
                call.cancel()

    def _rollout(self, request: EnqueueRolloutRequest) -> rollout_pb2.Rollout:
        return convert.rollout_to_proto(**dict(request), run_id=self.run_id, queue=self.queue)


def _client(server_address: str, retry_seconds: float, run_id: str | None, queue: str | None) -> LightningStoreClient:
    return LightningStoreClient(server_address, retry_seconds=retry_seconds, run_id=run_id, queue=queue)


def _given(**fields: tuple[Any, Callable[[Any], Any]]) -> dict[str, Any]:
    """The fields that are to change, as the wire has them: each a value and what translates it."""
    return {name: translate(value) for name, (value, translate) in fields.items() if not isinstance(value, Unset)}


def _metadata_json(metadata: dict[str, Any] | None) -> str:
    return "" if metadata is None else convert.to_json("metadata", metadata)


def _new_id() -> str:
    return uuid.uuid4().hex


def _batches(items: Iterable[M]) -> Iterator[list[M]]:
    """The items in batches that one message takes."""
    batch: list[M] = []
    size = 0
    for item in items:
        if batch and (len(batch) == _MAX_BATCH or size + item.ByteSize() > _MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item.ByteSize()
    if batch:
        yield batch


def _everything(items: list[T]) -> PaginatedResult[T]:
    return PaginatedResult(items, limit=-1, offset=0, total=len(items))


def _refused_span(refusals: list[pb.AddSpansResponse.Result]) -> StoreError:
    reason = refusals[0].error_reason
    kind = NotFoundError if reason.endswith("_NOT_FOUND") else InvalidRequestError
    return kind(f"{len(refusals)} spans were refused: {refusals[0].error_message}", reason=reason)
