"""Finds an attempt with its rollout, and brings both to where a rule says they stand. Decides nothing."""

from typing import Any, NamedTuple

from agentlightning.v1.attempt_pb2 import Failure

from agentlightning_server.errors import attempt_not_found, rollout_not_found
from agentlightning_server.lifecycle import rules
from agentlightning_server.lifecycle.deadlines import Deadline, next_deadline
from agentlightning_server.lifecycle.states import AttemptStatus, FailureKind, RolloutStatus, Situation, Verdict
from agentlightning_server.storage import workers
from agentlightning_server.storage.rows import failure_kind, proto_failure_kind, situation
from agentlightning_server.storage.transaction import LostAttempt, Reading, Row, Transaction


class Pair(NamedTuple):
    """A rollout and one of its attempts, as they stand."""

    rollout: Row
    attempt: Row
    now: Situation
    """What the rules look at."""


def find(tx: Reading, rollout_id: str, attempt_id: str, *, or_latest: bool = False) -> Pair:
    """The rows of an attempt; for who may say so, `latest` names the rollout's latest one.

    No worker may: that it knows the attempt's id is what proves that the work is its.

    Raises:
        StoreError: There is no such rollout or attempt.
    """
    if (rollout := tx.one("rollout", rollout_id=rollout_id)) is None:
        raise rollout_not_found(rollout_id)
    if or_latest and attempt_id == "latest":
        attempt_id = rollout["latest_attempt_id"] or attempt_id
    if (attempt := tx.one("attempt", rollout_id=rollout_id, attempt_id=attempt_id)) is None:
        raise attempt_not_found(rollout_id, attempt_id)
    return pair_of(tx, rollout, attempt)


def pair_of(tx: Reading, rollout: Row, attempt: Row) -> Pair:
    """The two rows with what the rules look at."""
    failures = {} if rollout["retry_policies"] is None else _earlier_failures(tx, attempt)
    return Pair(rollout, attempt, situation(rollout, attempt, failures))


def announce_deadline(tx: Transaction, pair: Pair) -> None:
    """Have the attempt looked at when its first deadline comes."""
    if (deadline := deadline_of(pair)) is not None:
        tx.notices.deadlines.append((deadline.time, pair.attempt["rollout_id"], pair.attempt["attempt_id"]))


def deadline_of(pair: Pair) -> Deadline | None:
    """The first deadline of a live attempt."""
    if not AttemptStatus(pair.attempt["status"]).is_live:
        return None
    return next_deadline(
        start_time=pair.attempt["start_time"],
        last_heartbeat_time=pair.attempt["last_heartbeat_time"],
        lease_expire_time=pair.attempt["lease_expire_time"],
        timeout=pair.rollout["timeout"],
        unresponsive_timeout=pair.rollout["unresponsive_timeout"],
    )


def settled(failure: Failure) -> Failure:
    """A failure with its kind said."""
    settled = Failure()
    settled.CopyFrom(failure)
    settled.kind = proto_failure_kind(failure_kind(failure.kind))
    return settled


def apply(
    tx: Transaction,
    pair: Pair,
    verdict: Verdict,
    failure: Failure | None = None,
    *,
    heard: bool = False,
    by_holder: bool = False,
    released: bool = False,
) -> tuple[Row, Row]:
    """Bring a rollout and its attempt to where a rule says they stand, and note whom that takes the attempt from.

    Args:
        tx: The transaction.
        pair: Where they stand.
        verdict: Where they shall stand.
        failure: Why an attempt that does not end well ends.
        heard: It is a sign of life: a live attempt's lease is extended.
        by_holder: It is the worker who says so.
        released: The attempt is given back unstarted.

    Returns:
        The rows of both afterwards.
    """
    attempt, rollout = apply_attempt(tx, pair, verdict, failure, heard=heard), None
    if pair.now.is_latest:
        rollout = apply_rollout(tx, pair.rollout, verdict, released=released)
        if attempt is not None and rollout is None:
            rollout = set_columns(tx, "set_rollout_revision", pair.rollout, revision=tx.next_revision())
    if heard and attempt is None:
        attempt = set_columns(tx, "touch_attempt", pair.attempt, **_heard_now(tx, pair, verdict.attempt))
    after = pair.now._replace(rollout=verdict.rollout, attempt=verdict.attempt)
    if rules.is_held(pair.now) and not rules.is_held(after):
        if by_holder:
            tx.notices.given_up.append(pair.attempt["attempt_id"])
        else:
            note_lost(tx, pair, verdict.attempt)
    return rollout or pair.rollout, attempt or pair.attempt


def note_lost(tx: Transaction, pair: Pair, status: AttemptStatus, *, superseded: bool = False) -> None:
    """Have whoever holds an attempt told that it is no longer theirs."""
    ids = pair.attempt["rollout_id"], pair.attempt["attempt_id"]
    tx.notices.lost.append(LostAttempt(*ids, status, superseded))


def apply_attempt(
    tx: Transaction, pair: Pair, verdict: Verdict, failure: Failure | None, *, heard: bool = False
) -> Row | None:
    """Bring an attempt to where a rule says it stands, and its worker with it; None when it stands there already."""
    before = pair.now.attempt
    if verdict.attempt is before:
        return None
    attempt_id, worker_id = pair.attempt["attempt_id"], pair.attempt["worker_id"]
    is_live = verdict.attempt.is_live
    why = None if is_live or verdict.attempt is AttemptStatus.SUCCEEDED or failure is None else settled(failure)
    row = set_columns(
        tx,
        "set_attempt_status",
        pair.attempt,
        status=verdict.attempt.value,
        lost=verdict.lost,
        end_time=None if is_live else max(tx.now, pair.attempt["start_time"]),
        **_heard_now(tx, pair, verdict.attempt, heard),
        failure=None if why is None else why.SerializeToString(deterministic=True),
        revision=tx.next_revision(),
    )
    workers.follow_attempt(tx, worker_id, pair.attempt["rollout_id"], attempt_id, verdict.attempt)
    if is_live and not before.is_live:
        announce_deadline(tx, find(tx, pair.attempt["rollout_id"], attempt_id))
    return row


def apply_rollout(tx: Transaction, rollout: Row, verdict: Verdict, *, released: bool = False) -> Row | None:
    """Bring a rollout to where a rule says it stands, in or out of its queue; None when it stands there already."""
    status, before = verdict.rollout, RolloutStatus(rollout["status"])
    same_redeliveries = verdict.redeliveries == rollout["redelivery_count"]
    if status is before and same_redeliveries and not released:
        return None
    tx.move(rollout["queue"], before, status)
    if status.is_at_work and before.is_at_work and same_redeliveries:
        return set_columns(tx, "set_rollout_at_work", rollout, status=status.value, revision=tx.next_revision())
    available_time = tx.now + verdict.backoff if status is RolloutStatus.REQUEUING and verdict.backoff else None
    revision = tx.next_revision()
    ends, moves = status.is_terminal, status is not before
    row = set_columns(
        tx,
        "set_rollout_status",
        rollout,
        status=status.value,
        redelivery_count=verdict.redeliveries,
        release_count=rollout["release_count"] + released,
        queue_position=revision if status.is_queued and not released else rollout["queue_position"],
        available_time=available_time,
        end_time=(rollout["end_time"] or max(tx.now, rollout["create_time"])) if ends else None,
        end_revision=(revision if moves else rollout["end_revision"]) if ends else None,
        revision=revision,
    )
    if ends and moves:
        tx.notices.ended.append(rollout["rollout_id"])
        tx.notices.events["ended"] += not before.is_terminal
    if available_time is not None:
        announce_back_off(tx, rollout["rollout_id"], available_time)
    elif status.is_queued:
        tx.notices.queued[rollout["queue"]] += 1
    return row


def announce_back_off(tx: Transaction, rollout_id: str, available_time: int) -> None:
    """Have a rollout put at its queue's disposal when its back-off is over."""
    tx.notices.deadlines.append((available_time, rollout_id, ""))


def end_back_off(tx: Transaction, rollout_id: str) -> None:
    """Put a rollout at its queue's disposal if its back-off is over."""
    row = tx.one("end_back_off", rollout_id=rollout_id, now=tx.now, revision=tx.next_revision())
    if row is not None:
        tx.notices.queued[row["queue"]] += 1


def set_columns(tx: Transaction, query: str, row: Row, **columns: Any) -> Row:
    """Set columns of a row, and give the row as it then is."""
    changed = row | columns
    tx.run_with(query, changed)
    return changed


def _heard_now(tx: Transaction, pair: Pair, status: AttemptStatus, heard: bool = True) -> dict[str, int | None]:
    """When an attempt was last heard of, and until when it is leased then."""
    lease = pair.attempt["lease_duration"]
    return {
        "last_heartbeat_time": tx.now if heard else pair.attempt["last_heartbeat_time"],
        "lease_expire_time": tx.now + lease if status.is_live and lease is not None else None,
    }


def cancelled(why: str) -> Failure:
    """Why an attempt ends that somebody ended from outside."""
    return Failure(kind=proto_failure_kind(FailureKind.CANCELLED), message=why)


def _earlier_failures(tx: Reading, attempt: Row) -> dict[FailureKind, int]:
    rows = tx.all("earlier_failures", rollout_id=attempt["rollout_id"], sequence_id=attempt["sequence_id"])
    return {rules.FAILURE_OF_STATUS[AttemptStatus(row["status"])]: row["count"] for row in rows}
