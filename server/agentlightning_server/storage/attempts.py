"""Attempts: leased, renewed, completed, timed out. Each function is one operation; the rules decide."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from agentlightning.v1.attempt_pb2 import Attempt, Failure
from agentlightning.v1.error_reason_pb2 import ErrorReason
from agentlightning.v1.rollout_pb2 import Assignment, Rollout
from agentlightning.v1.span_pb2 import Span
from agentlightning.v1.store_service_pb2 import (
    AddSpansResponse,
    AttemptRef,
    CompleteAttemptRequest,
    HeartbeatAttemptsResponse,
    UpdateAttemptRequest,
)
from google.protobuf.duration_pb2 import Duration

from agentlightning_server.clock import SECOND
from agentlightning_server.errors import StoreError, no_attempts, rollout_not_found
from agentlightning_server.lifecycle import rules
from agentlightning_server.lifecycle.deadlines import Deadline, heartbeat_interval
from agentlightning_server.lifecycle.states import (
    AttemptStatus,
    Ended,
    FailureKind,
    Refused,
    RolloutStatus,
    Situation,
    Superseded,
    Verdict,
)
from agentlightning_server.storage import spans, workers
from agentlightning_server.storage.ids import new_id
from agentlightning_server.storage.rows import (
    attempt_message,
    attempt_status,
    duration,
    failure_kind,
    micros,
    proto_attempt_status,
    proto_failure_kind,
    rollout_message,
    rollout_with_attempt_message,
    timestamp,
)
from agentlightning_server.storage.transaction import LostAttempt, Reading, Row, Transaction
from agentlightning_server.storage.verdicts import (
    Pair,
    announce_back_off,
    announce_deadline,
    apply,
    apply_attempt,
    apply_rollout,
    cancelled,
    deadline_of,
    end_back_off,
    find,
    note_lost,
    pair_of,
    set_columns,
    settled,
)

_RELEASED = cancelled("released before it began")
_NEW: Row = {
    "status": AttemptStatus.PREPARING.value,
    **dict.fromkeys(("end_time", "last_heartbeat_time", "failure", "final_reward")),
    "metadata_json": "",
    **dict.fromkeys(("lost", "reward_sequence_id", "lost_span_count"), 0),
}


def start(tx: Transaction, rollout_id: str, worker_id: str, lease_duration: int | None) -> Assignment:
    """Make the next attempt of a rollout, wherever it stands.

    Raises:
        StoreError: There is no such rollout.
    """
    if (rollout := tx.one("rollout", rollout_id=rollout_id)) is None:
        raise rollout_not_found(rollout_id)
    return begin(tx, rollout, worker_id, lease_duration)


def begin(tx: Transaction, rollout: Row, worker_id: str, lease_duration: int | None) -> Assignment:
    """Make the next attempt of a rollout; whoever held the one before has lost it."""
    ids = {"rollout_id": rollout["rollout_id"], "attempt_id": new_id("at-", 16, tx.now, tx.revision())}
    if rollout["latest_attempt_id"] is not None:
        _supersede(tx, find(tx, ids["rollout_id"], rollout["latest_attempt_id"]))
    tx.move(rollout["queue"], rollout["status"], RolloutStatus.PREPARING.value)
    reopened = dict.fromkeys(("available_time", "final_reward", "end_time", "end_revision"))
    if any(rollout[column] is not None for column in reopened):
        rollout = set_columns(tx, "reopen_rollout", rollout, **reopened)
    revision = tx.next_revision()
    started = set_columns(
        tx,
        "start_rollout_attempt",
        rollout,
        status=RolloutStatus.PREPARING.value,
        attempt_count=rollout["attempt_count"] + 1,
        latest_attempt_id=ids["attempt_id"],
        revision=revision,
    )
    attempt = set_columns(
        tx,
        "insert_attempt",
        _NEW,
        **ids,
        sequence_id=started["attempt_count"],
        worker_id=worker_id,
        start_time=tx.now,
        lease_duration=lease_duration,
        lease_expire_time=None if lease_duration is None else tx.now + lease_duration,
        revision=revision,
    )
    tx.notices.events["started"] += 1
    pair = pair_of(tx, started, attempt)
    announce_deadline(tx, pair)
    workers.follow_attempt(tx, worker_id, **ids, status=AttemptStatus.PREPARING)
    return assignment(tx, pair)


def assignment(tx: Reading, pair: Pair) -> Assignment:
    """A leased attempt as its worker is told of it."""
    lease = pair.attempt["lease_duration"]
    attempt = attempt_message(pair.attempt)
    return Assignment(
        rollout=rollout_message(pair.rollout, attempt),
        attempt=attempt,
        next_sequence_id=spans.last_sequence(tx, pair.rollout["rollout_id"]) + 1,
        heartbeat_interval=None if lease is None else interval(lease, pair.rollout["unresponsive_timeout"]),
    )


def interval(lease_duration: int, unresponsive_timeout: int | None = None) -> Duration:
    """How often to heartbeat."""
    return duration(heartbeat_interval(lease_duration, unresponsive_timeout, shortest=SECOND))


def heartbeat(tx: Transaction, ref: AttemptRef) -> HeartbeatAttemptsResponse.Result:
    """Renew a lease, or say that it is gone."""
    try:
        pair = find(tx, ref.rollout_id, ref.attempt_id)
    except StoreError:
        return HeartbeatAttemptsResponse.Result(attempt_id=ref.attempt_id)
    try:
        verdict = rules.on_heartbeat(pair.now)
    except Refused:
        return HeartbeatAttemptsResponse.Result(
            attempt_id=ref.attempt_id, status=proto_attempt_status(pair.attempt["status"])
        )
    _, attempt = apply(tx, pair, verdict, heard=True)
    expire_time = attempt["lease_expire_time"]
    return HeartbeatAttemptsResponse.Result(
        attempt_id=ref.attempt_id,
        held=True,
        lease_expire_time=None if expire_time is None else timestamp(expire_time),
        status=proto_attempt_status(verdict.attempt),
    )


def release(tx: Transaction, ref: AttemptRef) -> bool:
    """Give an attempt back unstarted, once; false when it is not the caller's any more."""
    try:
        pair = find(tx, ref.rollout_id, ref.attempt_id)
        if _ended_by(pair, _RELEASED):
            return True
        verdict = rules.on_release(pair.now)
    except (StoreError, Refused):
        return False
    apply(tx, pair, verdict, _RELEASED, by_holder=True, released=True)
    return True


def lost_of(tx: Reading, refs: Iterable[AttemptRef]) -> list[LostAttempt]:
    """Those of the attempts that are not their workers' any more."""
    return [lost for ref in refs if (lost := _lost(tx, ref)) is not None]


def complete(tx: Transaction, request: CompleteAttemptRequest) -> Rollout:
    """End an attempt with its last spans; a repeat of the same outcome changes no status.

    Raises:
        StoreError: The attempt is no longer the caller's.
    """
    pair = find(tx, request.rollout_id, request.attempt_id)
    failure = request.failure if request.HasField("failure") else None
    verdict = None if _is_repeat(pair, failure) else _completed(pair, failure)
    # Also those of a repeat: an administrator may have said the same before, without them.
    added = spans.add(tx, request.rollout_id, request.attempt_id, request.spans)
    if verdict is None:
        row = tx.one("rollout_with_attempt", rollout_id=request.rollout_id)
        assert row is not None
        return rollout_with_attempt_message(row)
    if request.lost_span_count:
        tx.run("set_lost_span_count", attempt_id=request.attempt_id, lost_span_count=request.lost_span_count)
    if request.lost_span_count or added.rewarded:
        pair = find(tx, request.rollout_id, request.attempt_id)  # which is changed by that
    rollout, attempt = apply(tx, pair, verdict, failure, by_holder=True)
    return rollout_message(rollout, attempt_message(attempt))


def expire(tx: Transaction, rollout_id: str, attempt_id: str) -> None:
    """Look whether an attempt has run out of time, and have the rule of that deadline speak.

    Without an attempt it is the rollout's back-off that may be over.
    """
    if not attempt_id:
        end_back_off(tx, rollout_id)
        return
    try:
        pair = find(tx, rollout_id, attempt_id)
    except StoreError:
        return  # deleted meanwhile
    deadline = deadline_of(pair)
    if deadline is None:
        return
    if deadline.time > tx.now:
        announce_deadline(tx, pair)
        return
    verdict = deadline.rule(pair.now)
    apply(tx, pair, verdict, _expired(deadline, pair))


def resume(tx: Transaction) -> None:
    """After a start of the server: every lease gets one fresh duration, and every deadline is looked at again.

    The clock may have been set back since the server before: what was created or began later than now did so now.
    """
    tx.run("date_rollouts_back", now=tx.now)
    tx.run("date_back_offs_back", now=tx.now)
    tx.run("renew_leases", now=tx.now)
    for row in tx.all("live_attempts"):
        announce_deadline(tx, find(tx, row["rollout_id"], row["attempt_id"]))
    for row in tx.all("backed_off"):
        announce_back_off(tx, row["rollout_id"], row["available_time"])


def cancel(tx: Transaction, rollout_id: str) -> None:
    """Cancel a rollout that is not terminal, and the attempt under it."""
    _with_rollout(tx, rollout_id, rules.on_cancel, "the rollout was cancelled")


def set_rollout_status(tx: Transaction, rollout_id: str, status: RolloutStatus) -> None:
    """Say where a rollout stands, as an administrator."""
    _with_rollout(tx, rollout_id, partial(rules.on_update_rollout, status=status), f"the rollout was set to {status}")


def update(tx: Transaction, request: UpdateAttemptRequest) -> Attempt:
    """Change the named fields of an attempt, as an administrator.

    Raises:
        StoreError: There is no such rollout, or it has no attempts, or not that one, or no way to its new status.
    """
    asked = request.attempt
    rollout = tx.one("rollout", rollout_id=asked.rollout_id)
    if rollout is not None and rollout["latest_attempt_id"] is None:
        raise no_attempts(asked.rollout_id)
    pair = find(tx, asked.rollout_id, asked.attempt_id, or_latest=True)
    paths = set(request.update_mask.paths)
    attempt_id = pair.attempt["attempt_id"]
    tx.run(
        "update_attempt_fields",
        attempt_id=attempt_id,
        worker_id=asked.worker_id if "worker_id" in paths else pair.attempt["worker_id"],
        last_heartbeat_time=_asked_heartbeat_time(asked)
        if "last_heartbeat_time" in paths
        else pair.attempt["last_heartbeat_time"],
        metadata_json=asked.metadata_json if "metadata_json" in paths else pair.attempt["metadata_json"],
        revision=tx.next_revision(),
    )
    if pair.now.is_latest:
        tx.run("set_rollout_revision", rollout_id=asked.rollout_id, revision=tx.next_revision())
    if "worker_id" in paths:
        _reassign(tx, pair, asked.worker_id)
    pair = find(tx, asked.rollout_id, attempt_id)
    announce_deadline(tx, pair)
    if "status" in paths:
        failure = asked.failure if asked.HasField("failure") else None
        apply(tx, pair, _told(pair, attempt_status(asked.status)), failure)
    return attempt_message(find(tx, asked.rollout_id, attempt_id).attempt)


def add_spans(tx: Transaction, new: Sequence[Span]) -> list[AddSpansResponse.Result]:
    """Store spans, each on its own: one that cannot be placed is rejected alone. New ones are signs of life."""
    of_attempt: defaultdict[tuple[str, str], list[Span]] = defaultdict(list)
    keys = [(span.rollout_id, span.attempt_id) for span in new]
    for key, span in zip(keys, new, strict=True):
        of_attempt[key].append(span)
    results = {ids: iter(_add_spans(tx, *ids, its)) for ids, its in of_attempt.items()}
    return [next(results[key]) for key in keys]


def _add_spans(tx: Transaction, rollout_id: str, attempt_id: str, new: Sequence[Span]) -> list[AddSpansResponse.Result]:
    try:
        pair = find(tx, rollout_id, attempt_id)
    except StoreError as error:
        return [spans.rejected(error)] * len(new)
    added = spans.add(tx, rollout_id, attempt_id, new)
    if not all(added.known):
        apply(tx, pair, rules.on_span(pair.now), heard=True)
    return [
        AddSpansResponse.Result(sequence_id=number, duplicate=is_known)
        for number, is_known in zip(added.numbers, added.known, strict=True)
    ]


def _with_rollout(tx: Transaction, rollout_id: str, rule: Callable[[Situation], Verdict], why: str) -> None:
    if (rollout := tx.one("rollout", rollout_id=rollout_id)) is None:
        raise rollout_not_found(rollout_id)
    attempt_id = rollout["latest_attempt_id"]
    # A rollout nobody has claimed has no attempt: the rules then look at one that is long over.
    pair = None if attempt_id is None else find(tx, rollout_id, attempt_id)
    before = pair.now if pair else Situation(RolloutStatus(rollout["status"]), AttemptStatus.CANCELLED)
    verdict = rule(before)
    if pair is None:
        apply_rollout(tx, rollout, verdict)
    else:
        apply(tx, pair, verdict, cancelled(why))


def _asked_heartbeat_time(asked: Attempt) -> int | None:
    return micros(asked.last_heartbeat_time) if asked.HasField("last_heartbeat_time") else None


def _lost(tx: Reading, ref: AttemptRef) -> LostAttempt | None:
    ids = ref.rollout_id, ref.attempt_id
    try:
        pair = find(tx, *ids)
    except StoreError:
        return LostAttempt(*ids, status=None)
    if rules.is_held(pair.now):
        return None
    return LostAttempt(*ids, AttemptStatus(pair.attempt["status"]), superseded=not pair.now.is_latest)


def _reassign(tx: Transaction, pair: Pair, worker_id: str) -> None:
    ids = pair.attempt["rollout_id"], pair.attempt["attempt_id"]
    if pair.attempt["worker_id"] != worker_id:
        workers.follow_attempt(tx, pair.attempt["worker_id"], *ids, AttemptStatus.CANCELLED)
    workers.follow_attempt(tx, worker_id, *ids, pair.now.attempt)


def _supersede(tx: Transaction, before: Pair) -> None:
    verdict = rules.on_superseded(before.now)
    if rules.is_held(before.now):
        note_lost(tx, before, verdict.attempt, superseded=True)
    # The rollout itself moves with the attempt that comes.
    apply_attempt(tx, before, verdict, cancelled("another attempt was started"))


def _completed(pair: Pair, failure: Failure | None) -> Verdict:
    try:
        return rules.on_complete(pair.now, None if failure is None else failure_kind(failure.kind))
    except Superseded as refusal:
        raise StoreError(
            ErrorReason.ERROR_REASON_ATTEMPT_SUPERSEDED,
            f"attempt {pair.attempt['attempt_id']} is no longer yours: {refusal}",
            attempt_id=pair.attempt["attempt_id"],
            latest_attempt_id=pair.rollout["latest_attempt_id"],
        ) from refusal
    except Ended as refusal:
        raise StoreError(
            ErrorReason.ERROR_REASON_ATTEMPT_ENDED,
            f"attempt {pair.attempt['attempt_id']} is no longer yours: {refusal}",
            attempt_id=pair.attempt["attempt_id"],
            status=pair.attempt["status"],
        ) from refusal


def _told(pair: Pair, status: AttemptStatus) -> Verdict:
    try:
        return rules.on_update_attempt(pair.now, status)
    except Refused as refusal:
        raise StoreError(
            ErrorReason.ERROR_REASON_TRANSITION_REFUSED,
            str(refusal),
            **{"attempt_id": pair.attempt["attempt_id"], "from": pair.now.attempt, "to": status},
        ) from refusal


def _is_repeat(pair: Pair, failure: Failure | None) -> bool:
    """Whether the attempt has ended already in just the way it is told to end."""
    if AttemptStatus(pair.attempt["status"]).is_live:
        return False
    if failure is None:
        return bool(pair.attempt["status"] == AttemptStatus.SUCCEEDED)
    return _ended_by(pair, failure)


def _ended_by(pair: Pair, failure: Failure) -> bool:
    return bool(pair.attempt["failure"] == settled(failure).SerializeToString(deterministic=True))


def _expired(deadline: Deadline, pair: Pair) -> Failure:
    seconds = (deadline.time - pair.attempt["start_time"]) / 1_000_000
    if deadline.rule is rules.on_timeout:
        return Failure(
            kind=proto_failure_kind(FailureKind.TIMEOUT), message=f"ran longer than the {seconds:g} s it is allowed"
        )
    if deadline.rule is rules.on_silence:
        return Failure(
            kind=proto_failure_kind(FailureKind.UNRESPONSIVE),
            message=f"nothing was heard of worker {pair.attempt['worker_id']!r} for "
            f"{pair.rollout['unresponsive_timeout'] / 1_000_000:g} s",
        )
    return Failure(
        kind=proto_failure_kind(FailureKind.INFRASTRUCTURE),
        type="LeaseExpired",
        message=f"worker {pair.attempt['worker_id']!r} did not renew its lease: it died, hung or lost the network",
    )
