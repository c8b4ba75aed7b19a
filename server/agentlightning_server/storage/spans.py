"""Spans: stored once each and numbered; a reward among them becomes its attempt's. Knows no rule."""

import math
from collections.abc import Iterable

from agentlightning.semconv import PRIMARY_REWARD_VALUE
from agentlightning.v1.error_reason_pb2 import ErrorReason
from agentlightning.v1.span_pb2 import Span
from agentlightning.v1.store_service_pb2 import AddSpansResponse

from agentlightning_server.errors import StoreError
from agentlightning_server.storage.rows import micros
from agentlightning_server.storage.transaction import Transaction


def add_all(tx: Transaction, new: Iterable[Span]) -> list[AddSpansResponse.Result]:
    """Store spans of attempts that exist, numbering those that their makers did not."""
    results = [_add(tx, span) for span in new]
    if count := sum(not result.duplicate for result in results):
        tx.run("count_spans", count=count)
        tx.notices.events["spans"] += count
    return results


def _add(tx: Transaction, span: Span) -> AddSpansResponse.Result:
    known = tx.one("span_sequence", attempt_id=span.attempt_id, span_id=span.span_id)
    if known is not None:
        return AddSpansResponse.Result(sequence_id=known[0], duplicate=True)
    if span.sequence_id > 0:
        tx.run("raise_sequence", rollout_id=span.rollout_id, sequence_id=span.sequence_id)
    else:
        span.sequence_id = reserve(tx, span.rollout_id)
    tx.run(
        "insert_span",
        rollout_id=span.rollout_id,
        attempt_id=span.attempt_id,
        span_id=span.span_id,
        sequence_id=span.sequence_id,
        trace_id=span.trace_id,
        parent_span_id=span.parent_span_id,
        name=span.name,
        start_time=micros(span.start_time) if span.HasField("start_time") else None,
        end_time=micros(span.end_time) if span.HasField("end_time") else None,
        span=span.SerializeToString(),
    )
    if (reward := _reward(span)) is not None:
        _set_reward(tx, span, reward)
    return AddSpansResponse.Result(sequence_id=span.sequence_id)


def reserve(tx: Transaction, rollout_id: str) -> int:
    """Set the next sequence id of a rollout aside."""
    row = tx.one("advance_sequence", rollout_id=rollout_id, count=1)
    assert row is not None
    return int(row[0])


def rejected(error: StoreError) -> AddSpansResponse.Result:
    """The answer for a span that was not stored."""
    reason = ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_")
    return AddSpansResponse.Result(error_reason=reason, error_message=str(error))


def _set_reward(tx: Transaction, span: Span, reward: float) -> None:
    ids = {"attempt_id": span.attempt_id, "reward": reward, "revision": tx.next_revision()}
    if tx.run("set_attempt_reward", sequence_id=span.sequence_id, **ids):
        tx.run("set_rollout_reward", rollout_id=span.rollout_id, **ids)


def _reward(span: Span) -> float | None:
    for attribute in span.attributes:
        if attribute.key == PRIMARY_REWARD_VALUE:
            value = attribute.value
            match value.WhichOneof("value"):
                case "double_value":
                    return value.double_value if math.isfinite(value.double_value) else None
                case "int_value":
                    return float(value.int_value)
    return None
