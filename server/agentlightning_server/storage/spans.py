"""Spans: stored once each and numbered; a reward among them becomes its attempt's. Knows no rule."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from agentlightning.semconv import PRIMARY_REWARD_VALUE
from agentlightning.v1.span_pb2 import Span
from agentlightning.v1.store_service_pb2 import AddSpansResponse

from agentlightning_server.errors import StoreError
from agentlightning_server.storage.rows import micros
from agentlightning_server.storage.transaction import Transaction


def add_all(tx: Transaction, new: Sequence[Span]) -> list[AddSpansResponse.Result]:
    """Store spans of attempts that exist, numbering those that their makers did not."""
    known = _known(tx, new)
    last = {rollout_id: _last_sequence(tx, rollout_id) for rollout_id in {span.rollout_id for span in new}}
    results: list[AddSpansResponse.Result] = []
    fresh: list[Span] = []
    for span in new:
        key = span.attempt_id, span.span_id
        is_known = key in known
        if not is_known:
            span.sequence_id = known[key] = span.sequence_id or last[span.rollout_id] + 1
            last[span.rollout_id] = max(last[span.rollout_id], span.sequence_id)
            fresh.append(span)
        results.append(AddSpansResponse.Result(sequence_id=known[key], duplicate=is_known))
    for rollout_id in {span.rollout_id for span in fresh}:
        tx.run("raise_sequence", rollout_id=rollout_id, sequence_id=last[rollout_id])
    tx.run_many("insert_span", map(_columns, fresh))
    for span in fresh:
        if (reward := _reward(span)) is not None:
            _set_reward(tx, span, reward)
    tx.notices.events["spans"] += len(fresh)
    return results


def reserve(tx: Transaction, rollout_id: str) -> int:
    """Set the next sequence id of a rollout aside."""
    row = tx.one("advance_sequence", rollout_id=rollout_id, count=1)
    assert row is not None
    return int(row["last_sequence_id"])


def rejected(error: StoreError) -> AddSpansResponse.Result:
    """The answer for a span that was not stored."""
    return AddSpansResponse.Result(error_reason=error.reason_name, error_message=str(error))


def _known(tx: Transaction, new: Iterable[Span]) -> dict[tuple[str, str], int]:
    """The numbers of those of the spans that are stored already, by attempt and span."""
    span_ids: defaultdict[str, list[str]] = defaultdict(list)
    for span in new:
        span_ids[span.attempt_id].append(span.span_id)
    return {
        (attempt_id, row["span_id"]): row["sequence_id"]
        for attempt_id, ids in span_ids.items()
        for row in tx.all("known_spans", attempt_id=attempt_id, span_ids=json.dumps(ids))
    }


def _last_sequence(tx: Transaction, rollout_id: str) -> int:
    row = tx.one("last_sequence", rollout_id=rollout_id)
    return 0 if row is None else int(row["last_sequence_id"])


def _columns(span: Span) -> dict[str, Any]:
    return {
        "rollout_id": span.rollout_id,
        "attempt_id": span.attempt_id,
        "span_id": span.span_id,
        "sequence_id": span.sequence_id,
        "trace_id": span.trace_id,
        "parent_span_id": span.parent_span_id,
        "name": span.name,
        "start_time": micros(span.start_time) if span.HasField("start_time") else None,
        "end_time": micros(span.end_time) if span.HasField("end_time") else None,
        "span": span.SerializeToString(),
    }


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
