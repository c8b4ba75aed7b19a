"""Sending much at once: in messages of a size that the server takes, each span with an answer of its own."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from agentlightning.errors import AttemptLostError, InvalidRequestError, NotFoundError, StoreError
from agentlightning.store.connection import MAX_MESSAGE_BYTES
from agentlightning.store.spans import invalid_span, span_to_proto
from agentlightning.store.wording import error_in_parameters
from agentlightning.types import Span
from agentlightning.v1 import span_pb2
from agentlightning.v1 import store_service_pb2 as pb

M = TypeVar("M", bound=Message)

MAX_BATCH = 1000
MAX_BATCH_BYTES = MAX_MESSAGE_BYTES // 4
_MAX_SPAN_BYTES = MAX_MESSAGE_BYTES - 1024


def batches(items: Iterable[M]) -> Iterator[list[M]]:
    """The items in batches that one message takes."""
    batch: list[M] = []
    size = 0
    for item in items:
        item_size = item.ByteSize()
        if batch and (len(batch) == MAX_BATCH or size + item_size > MAX_BATCH_BYTES):
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


def refusal(result: pb.AddSpansResponse.Result | pb.CompleteAttemptsResponse.Result) -> StoreError:
    """Why one of many was refused."""
    reason = result.error_reason
    told = result.error_metadata if isinstance(result, pb.CompleteAttemptsResponse.Result) else {}
    message, metadata = error_in_parameters(result.error_message, told)
    if reason.endswith("_NOT_FOUND"):
        return NotFoundError(message, code="NOT_FOUND", reason=reason, metadata=metadata)
    if reason.startswith("ATTEMPT_"):
        return AttemptLostError(message, code="FAILED_PRECONDITION", reason=reason, metadata=metadata)
    return InvalidRequestError(message, code="INVALID_ARGUMENT", reason=reason, metadata=metadata)


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
