"""Sending much at once: in messages of a size that the server takes, each span with an answer of its own."""

import asyncio
import functools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from agentlightning.errors import InvalidRequestError, NotFoundError, StoreError, StoreUnavailableError
from agentlightning.store.connection import CALL_SECONDS, MAX_MESSAGE_BYTES, Backoff, connection_to
from agentlightning.store.spans import invalid_span, span_to_proto
from agentlightning.types import Span
from agentlightning.v1 import span_pb2
from agentlightning.v1 import store_service_pb2 as pb

M = TypeVar("M", bound=Message)

MAX_BATCH = 1000
_MAX_BATCH_BYTES = MAX_MESSAGE_BYTES // 4
_MAX_SPAN_BYTES = MAX_MESSAGE_BYTES - 1024


def batches(items: Iterable[M]) -> Iterator[list[M]]:
    """The items in batches that one message takes."""
    batch: list[M] = []
    size = 0
    for item in items:
        item_size = item.ByteSize()
        if batch and (len(batch) == MAX_BATCH or size + item_size > _MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item_size
    if batch:
        yield batch


def message_of(span: Span) -> span_pb2.Span | StoreError:
    """A span as the wire has it, or why it cannot be sent."""
    try:
        message = span_to_proto(span)
    except InvalidRequestError as error:
        return error
    if (size := message.ByteSize()) > _MAX_SPAN_BYTES:
        return invalid_span(span, f"has {size} bytes, at most {_MAX_SPAN_BYTES} can be sent")
    return message


def outcome(span: Span, result: pb.AddSpansResponse.Result) -> Span | StoreError | None:
    """What became of a span: as it is stored, None when it was stored before, or why it was refused."""
    if result.error_reason:
        return refusal(result)
    if result.duplicate:
        return None
    is_numbered = span.sequence_id == result.sequence_id
    return span if is_numbered else span.model_copy(update={"sequence_id": result.sequence_id})


def refusal(result: pb.AddSpansResponse.Result) -> StoreError:
    """Why a span was refused."""
    if result.error_reason.endswith("_NOT_FOUND"):
        return NotFoundError(result.error_message, code="NOT_FOUND", reason=result.error_reason)
    return InvalidRequestError(result.error_message, code="INVALID_ARGUMENT", reason=result.error_reason)


def raise_if_refused(refusals: Sequence[StoreError]) -> None:
    """Tell the caller of the spans that were refused, if any were.

    Raises:
        StoreError: The first refusal, or how many there are with the first.
    """
    if len(refusals) == 1:
        raise refusals[0]
    if refusals:
        first = refusals[0]
        message = f"{len(refusals)} spans were refused, the first because: {first}"
        raise type(first)(message, code=first.code, reason=first.reason)


@dataclass(eq=False, slots=True)
class _Errand:
    """What one caller sends, and what it waits for."""

    spans: Sequence[span_pb2.Span]
    results: "asyncio.Future[list[pb.AddSpansResponse.Result]]" = field(default_factory=asyncio.Future)


class SpanSender:
    """Sends the spans of all callers to one store. Lives on the gRPC thread.

    One call is on its way at a time, and what comes meanwhile goes together as the next. Who comes alone waits for
    nobody, and a call that pauses before it is repeated holds up no other.
    """

    def __init__(self, address: str, retry_seconds: float) -> None:
        self._address = address
        self._retry_seconds = retry_seconds
        self._waiting: deque[_Errand] = deque()
        self._calls = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def send(self, spans: Sequence[span_pb2.Span]) -> list[pb.AddSpansResponse.Result]:
        """Send one caller's batch.

        Returns:
            What became of each span, in their order.

        Raises:
            StoreError: The store refused, or could not be reached for `retry_seconds`.
        """
        errand = _Errand(spans)
        self._waiting.append(errand)
        if not self._calls and len(self._waiting) == 1:
            self._send_soon()
        return await errand.results

    def _send_soon(self) -> None:
        task = asyncio.create_task(self._send_waiting(), name="spans")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_waiting(self) -> None:
        await self._send(self._take())

    def _take(self) -> list[_Errand]:
        """As many of those that wait as one message takes; the first in any case."""
        self._waiting = deque(_unanswered(self._waiting))
        taken: list[_Errand] = []
        count = size = 0
        while self._waiting:
            spans = self._waiting[0].spans
            count += len(spans)
            size += sum(span.ByteSize() for span in spans)
            if taken and (count > MAX_BATCH or size > _MAX_BATCH_BYTES):
                break
            taken.append(self._waiting.popleft())
        return taken

    async def _send(self, errands: Sequence[_Errand]) -> None:
        try:
            await self._call_or_repeat(errands)
        except Exception as error:
            if len(errands) > 1 and not isinstance(error, StoreUnavailableError):
                # One of them is to blame.
                await asyncio.gather(*(self._send([errand]) for errand in errands))
            else:
                for errand in _unanswered(errands):
                    errand.results.set_exception(error)

    async def _call_or_repeat(self, errands: Sequence[_Errand]) -> None:
        """Make one call of them, and again for those who still wait, until it is answered."""
        backoff, is_repeat = Backoff(self._retry_seconds), False
        while errands := _unanswered(errands):
            try:
                with self._calling():
                    connection = connection_to(self._address)
                    request = pb.AddSpansRequest(spans=[span for errand in errands for span in errand.spans])
                    answer = await connection.stub.AddSpans(request, timeout=CALL_SECONDS)
            except grpc.aio.AioRpcError as error:
                await backoff.pause_or_raise(error, connection.target)
                is_repeat = True
                continue
            if is_repeat:  # then what it calls duplicates are the first call's own
                for result in answer.results:
                    result.duplicate = False
            results = iter(answer.results)
            for errand, own in [(errand, [*islice(results, len(errand.spans))]) for errand in errands]:
                if not errand.results.done():
                    errand.results.set_result(own)

    @contextmanager
    def _calling(self) -> Iterator[None]:
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            if self._waiting and not self._calls:
                self._send_soon()


def _unanswered(errands: Iterable[_Errand]) -> list[_Errand]:
    """Those whose callers still wait."""
    return [errand for errand in errands if not errand.results.done()]


@functools.cache
def sender_to(address: str, retry_seconds: float) -> SpanSender:
    """The process's sender of spans to a store, for all who try as long. On the gRPC thread only."""
    return SpanSender(address, retry_seconds)
