"""Finds an attempt with its rollout, and brings both to where a rule says they stand. Decides nothing."""

import sqlite3
from dataclasses import dataclass

from agentlightning.v1.attempt_pb2 import Failure

from agentlightning_server.errors import attempt_not_found, rollout_not_found
from agentlightning_server.lifecycle.deadlines import Deadline, next_deadline
from agentlightning_server.lifecycle.states import AttemptStatus, FailureKind, Situation, Verdict
from agentlightning_server.storage import workers
from agentlightning_server.storage.rows import failure_kind, proto_failure_kind, situation
from agentlightning_server.storage.transaction import Reading, Transaction


@dataclass(frozen=True, slots=True)
class Pair:
    """The rows of a rollout and one of its attempts."""

    rollout: sqlite3.Row
    attempt: sqlite3.Row

    @property
    def now(self) -> Situation:
        """What the rules look at."""
        return situation(self.rollout, self.attempt)


def find(tx: Reading, rollout_id: str, attempt_id: str) -> Pair:
    """The rows of an attempt; `latest` names the rollout's latest one.

    Raises:
        StoreError: There is no such rollout or attempt.
    """
    if (rollout := tx.one("rollout", rollout_id=rollout_id)) is None:
        raise rollout_not_found(rollout_id)
    if attempt_id == "latest":
        attempt_id = rollout["latest_attempt_id"] or attempt_id
    if (attempt := tx.one("attempt", rollout_id=rollout_id, attempt_id=attempt_id)) is None:
        raise attempt_not_found(rollout_id, attempt_id)
    return Pair(rollout, attempt)


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
    tx: Transaction, pair: Pair, verdict: Verdict, failure: Failure | None = None, *, released: bool = False
) -> None:
    """Bring a rollout and its attempt to where a rule says they stand."""
    apply_attempt(tx, pair, verdict, failure)
    if pair.now.is_latest:
        apply_rollout(tx, pair.rollout, verdict, released=released)


def apply_attempt(tx: Transaction, pair: Pair, verdict: Verdict, failure: Failure | None) -> None:
    """Bring an attempt to where a rule says it stands, and its worker with it."""
    before = AttemptStatus(pair.attempt["status"])
    if verdict.attempt is before:
        return
    attempt_id, worker_id = pair.attempt["attempt_id"], pair.attempt["worker_id"]
    is_live = verdict.attempt.is_live
    lease = pair.attempt["lease_duration"]
    why = None if is_live or verdict.attempt is AttemptStatus.SUCCEEDED or failure is None else settled(failure)
    tx.run(
        "set_attempt_status",
        attempt_id=attempt_id,
        status=verdict.attempt,
        lost=verdict.lost,
        end_time=None if is_live else tx.now,
        lease_expire_time=tx.now + lease if is_live and lease is not None else None,
        failure=None if why is None else why.SerializeToString(deterministic=True),
        revision=tx.next_revision(),
    )
    workers.follow_attempt(tx, worker_id, pair.attempt["rollout_id"], attempt_id, verdict.attempt)
    if is_live and not before.is_live:
        announce_deadline(tx, find(tx, pair.attempt["rollout_id"], attempt_id))


def apply_rollout(tx: Transaction, rollout: sqlite3.Row, verdict: Verdict, *, released: bool = False) -> None:
    """Bring a rollout to where a rule says it stands, and in or out of its queue."""
    status = verdict.rollout
    if status == rollout["status"] and verdict.redeliveries == rollout["redelivery_count"] and not released:
        return
    revision = tx.next_revision()
    ends = status.is_terminal
    tx.run(
        "set_rollout_status",
        rollout_id=rollout["rollout_id"],
        status=status,
        redelivery_count=verdict.redeliveries,
        release_count=rollout["release_count"] + released,
        queue_position=revision if status.is_queued and not released else rollout["queue_position"],
        end_time=(rollout["end_time"] or tx.now) if ends else None,
        end_revision=revision if ends else None,
        revision=revision,
    )
    if ends:
        tx.notices.ended.append(rollout["rollout_id"])
    if status.is_queued:
        tx.notices.queued[rollout["queue"]] += 1


def cancelled(why: str) -> Failure:
    """Why an attempt ends that somebody ended from outside."""
    return Failure(kind=proto_failure_kind(FailureKind.CANCELLED), message=why)
