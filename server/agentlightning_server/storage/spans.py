"""Spans: stored once each and numbered; a reward among them becomes its attempt's. Knows no rule."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from agentlightning.semconv import REWARD_KEYS, primary_reward
from agentlightning.v1.span_pb2 import AttributeValue, Span
from agentlightning.v1.store_service_pb2 import AddSpansResponse

from agentlightning_server.errors import StoreError
from agentlightning_server.storage.rows import micros
from agentlightning_server.storage.transaction import Reading, Transaction

_REWARD = b"reward"
"""What every reward has somewhere in its message."""


class Added(NamedTuple):
    """What became of spans, in their order."""

    numbers: list[int]
    known: list[bool]
    """Which were stored before."""
    rewarded: bool = False
    """One of them carries a reward: its attempt and its rollout are changed."""


def add(tx: Transaction, rollout_id: str, attempt_id: str, new: Sequence[Span]) -> Added:
    """Store spans of an attempt that exists, numbering those that their makers did not."""
    added = Added([], [])
    if not new:
        return added
    last = before = last_sequence(tx, rollout_id)
    span_ids = [span.span_id for span in new]
    stored = _stored(tx, attempt_id, span_ids) if last else {}
    fresh = []
    rewarded = False
    for span_id, span in zip(span_ids, new, strict=True):
        is_known = span_id in stored
        if not is_known:
            number = stored[span_id] = span.sequence_id = span.sequence_id or last + 1
            last = max(last, number)
            message = span.SerializeToString()
            fresh.append((rollout_id, attempt_id, span_id, number, *_columns(span), message))
            # Looking for the word first spares most spans a look at each of their attributes.
            if _REWARD in message and (value := _reward(span)) is not None:
                _set_reward(tx, rollout_id, attempt_id, number, value)
                rewarded = True
        added.numbers.append(stored[span_id])
        added.known.append(is_known)
    if last > before:
        tx.run("raise_sequence", rollout_id=rollout_id, sequence_id=last)
    tx.run_many("insert_span", fresh)
    tx.notices.events["spans"] += len(fresh)
    return added._replace(rewarded=rewarded)


def reserve(tx: Transaction, rollout_id: str) -> int:
    """Set the next sequence id of a rollout aside."""
    row = tx.one("advance_sequence", rollout_id=rollout_id, count=1)
    assert row is not None
    return int(row["last_sequence_id"])


def last_sequence(tx: Reading, rollout_id: str) -> int:
    """The last sequence id that a rollout's spans have, or that was set aside for one; 0 when none was."""
    row = tx.one("last_sequence", rollout_id=rollout_id)
    return 0 if row is None else int(row["last_sequence_id"])


def _reward(span: Span) -> float | None:
    telling = {entry.key: _plain(entry.value) for entry in span.attributes if entry.key in REWARD_KEYS}
    return primary_reward(span.name, telling) if telling else None


def _plain(value: AttributeValue) -> object:
    match value.WhichOneof("value"):
        case None:
            return None
        case "map_value":
            return {entry.key: _plain(entry.value) for entry in value.map_value.entries}
        case kind:
            return getattr(value, kind)


def rejected(error: StoreError) -> AddSpansResponse.Result:
    """The answer for a span that was not stored."""
    return AddSpansResponse.Result(error_reason=error.reason_name, error_message=str(error))


def _stored(tx: Reading, attempt_id: str, span_ids: Sequence[str]) -> dict[str, int]:
    """The numbers of those of the spans that are stored already."""
    rows = tx.all("stored_spans", attempt_id=attempt_id, span_ids=json.dumps(span_ids))
    return {row["span_id"]: row["sequence_id"] for row in rows}


def _columns(span: Span) -> tuple[str, str, str, int | None, int | None]:
    """What lists of spans look at besides the ids."""
    return (
        span.trace_id,
        span.parent_span_id,
        span.name,
        micros(span.start_time) if span.HasField("start_time") else None,
        micros(span.end_time) if span.HasField("end_time") else None,
    )


def _set_reward(tx: Transaction, rollout_id: str, attempt_id: str, number: int, value: float) -> None:
    change = {"attempt_id": attempt_id, "reward": value, "revision": tx.next_revision()}
    if tx.run("set_attempt_reward", sequence_id=number, **change):
        tx.run("set_rollout_reward", rollout_id=rollout_id, **change)
