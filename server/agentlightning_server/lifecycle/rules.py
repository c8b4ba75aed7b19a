"""What happens when something arrives: one function an event, from a situation to a verdict. Tested as a table."""

from agentlightning_server.lifecycle.states import (
    AttemptStatus,
    Ended,
    FailureKind,
    RolloutStatus,
    Situation,
    Superseded,
    TransitionRefused,
    Verdict,
)

_STATUS_OF_FAILURE = {
    FailureKind.AGENT: AttemptStatus.FAILED,
    FailureKind.INFRASTRUCTURE: AttemptStatus.FAILED,
    FailureKind.TIMEOUT: AttemptStatus.TIMEOUT,
    FailureKind.UNRESPONSIVE: AttemptStatus.UNRESPONSIVE,
    FailureKind.CANCELLED: AttemptStatus.CANCELLED,
}
FAILURE_OF_STATUS = {
    AttemptStatus.FAILED: FailureKind.AGENT,
    AttemptStatus.TIMEOUT: FailureKind.TIMEOUT,
    AttemptStatus.UNRESPONSIVE: FailureKind.UNRESPONSIVE,
}
"""Who is to blame for an attempt that ended so and was not lost to the infrastructure."""
_ROLLOUT_OF_ATTEMPT = {
    AttemptStatus.PREPARING: RolloutStatus.PREPARING,
    AttemptStatus.RUNNING: RolloutStatus.RUNNING,
    AttemptStatus.SUCCEEDED: RolloutStatus.SUCCEEDED,
    AttemptStatus.CANCELLED: RolloutStatus.CANCELLED,
}


def on_span(now: Situation) -> Verdict:
    """A span arrived. It is stored in any case; it is a sign of life only of what can still be alive."""
    if now.attempt.is_live or _is_revivable(now):
        return _running(now)
    if now.is_latest and now.attempt is AttemptStatus.UNRESPONSIVE and now.rollout is RolloutStatus.FAILED:
        # The worker is alive after all, but the verdict on the rollout has been given.
        return _unchanged(now)._replace(attempt=AttemptStatus.RUNNING)
    return _unchanged(now)


def on_heartbeat(now: Situation) -> Verdict:
    """The holder says that it is at work.

    Raises:
        Superseded: The rollout has a later attempt.
        Ended: The attempt has ended.
    """
    _require_holder(now)
    return _running(now)


def on_complete(now: Situation, failure: FailureKind | None) -> Verdict:
    """The holder says how it ended: well, or for this reason.

    Raises:
        Superseded: The rollout has a later attempt.
        Ended: The attempt has ended.
    """
    _require_holder(now)
    if failure is None:
        return _ended(now, AttemptStatus.SUCCEEDED)
    if failure is FailureKind.INFRASTRUCTURE:
        return _lost(now, AttemptStatus.FAILED)
    return _ended(now, _STATUS_OF_FAILURE[failure])


def on_lease_expired(now: Situation) -> Verdict:
    """The lease ran out: an infrastructure loss, delivered again without costing an attempt."""
    return _lost(now, AttemptStatus.UNRESPONSIVE) if now.attempt.is_live else _unchanged(now)


def on_timeout(now: Situation) -> Verdict:
    """The attempt ran longer than its rollout allows."""
    return _ended(now, AttemptStatus.TIMEOUT) if now.attempt.is_live else _unchanged(now)


def on_silence(now: Situation) -> Verdict:
    """Nothing was heard for longer than the rollout allows."""
    return _ended(now, AttemptStatus.UNRESPONSIVE) if now.attempt.is_live else _unchanged(now)


def on_cancel(now: Situation) -> Verdict:
    """Somebody cancelled the rollout: final for what is not terminal, nothing for what is."""
    if now.rollout.is_terminal:
        return _unchanged(now)
    attempt = AttemptStatus.CANCELLED if now.attempt.is_live else now.attempt
    return _unchanged(now)._replace(rollout=RolloutStatus.CANCELLED, attempt=attempt)


def on_release(now: Situation) -> Verdict:
    """The holder gives the attempt back unstarted.

    Raises:
        Superseded: The rollout has a later attempt.
        Ended: The attempt has ended.
    """
    _require_holder(now)
    now = _revived(now)
    return _unchanged(now)._replace(rollout=RolloutStatus.REQUEUING, attempt=AttemptStatus.CANCELLED)


def on_superseded(now: Situation) -> Verdict:
    """Another attempt begins: a live one ends under its worker."""
    attempt = AttemptStatus.CANCELLED if now.attempt.is_live else now.attempt
    return _unchanged(now)._replace(attempt=attempt)


def on_update_attempt(now: Situation, status: AttemptStatus) -> Verdict:
    """An administrator says where the attempt stands; the rollout follows unless it is terminal.

    Raises:
        TransitionRefused: For an attempt that would live again beside a later one.
    """
    if status is now.attempt:
        return _unchanged(now)
    if status.is_live and not now.is_latest:
        raise TransitionRefused(f"an attempt does not become {status} beside a later one: use StartAttempt")
    if not now.is_latest or now.rollout.is_terminal:
        return _unchanged(now)._replace(attempt=status)
    if status.is_live:
        return _unchanged(_revived(now))._replace(rollout=_ROLLOUT_OF_ATTEMPT[status], attempt=status)
    return _ended(now, status)


def on_update_rollout(now: Situation, status: RolloutStatus) -> Verdict:
    """An administrator says where the rollout stands; a live attempt ends unless the rollout is said to be at work."""
    if status is now.rollout:
        return _unchanged(now)
    return (_unchanged(now) if status.is_at_work else on_superseded(now))._replace(rollout=status)


def is_held(now: Situation) -> bool:
    """Whether the attempt is its worker's still: alive, or silent and to be revived by the next sign of life."""
    alive = now.attempt.is_live or _is_revivable(now)
    return now.is_latest and alive and not now.rollout.is_terminal


def _require_holder(now: Situation) -> None:
    if not now.is_latest:
        raise Superseded("the rollout has a later attempt")
    if not (now.attempt.is_live or _is_revivable(now)):
        raise Ended(f"the attempt has ended: {now.attempt}")
    if now.rollout.is_terminal:
        raise Ended(f"the rollout has ended: {now.rollout}")


def _is_revivable(now: Situation) -> bool:
    """Silent or lost, and nobody has claimed the rollout since."""
    is_silent = now.attempt is AttemptStatus.UNRESPONSIVE
    return now.is_latest and is_silent and now.rollout is RolloutStatus.REQUEUING


def _revived(now: Situation) -> Situation:
    """The loss of a revived attempt did not happen after all, unless the verdict on the rollout has been given."""
    if not now.lost or now.rollout.is_terminal:
        return now
    return now._replace(redeliveries=now.redeliveries - 1, lost=False)


def _running(now: Situation) -> Verdict:
    now = _revived(now)
    follows = now.is_latest and not now.rollout.is_terminal
    rollout = RolloutStatus.RUNNING if follows else now.rollout
    return _unchanged(now)._replace(rollout=rollout, attempt=AttemptStatus.RUNNING)


def _ended(now: Situation, status: AttemptStatus) -> Verdict:
    """The attempt ended; for the latest one the retry rules decide what becomes of the rollout."""
    now = _revived(now)
    verdict = _unchanged(now)._replace(attempt=status)
    if not now.is_latest or now.rollout.is_terminal:
        return verdict
    if status in _ROLLOUT_OF_ATTEMPT:
        return verdict._replace(rollout=_ROLLOUT_OF_ATTEMPT[status])
    kind = FAILURE_OF_STATUS[status]
    policy, failures = now.retry.policies.get(kind), now.failures.get(kind, 0)
    counted = now.sequence_id - now.redeliveries - now.releases
    again = counted < now.retry.max_attempts and (
        status in now.retry.retry_condition
        if policy is None
        else policy.max_retries is None or failures < policy.max_retries
    )
    if not again:
        return verdict._replace(rollout=RolloutStatus.FAILED)
    return verdict._replace(rollout=RolloutStatus.REQUEUING, backoff=policy.backoff(failures) if policy else 0)


def _lost(now: Situation, status: AttemptStatus) -> Verdict:
    """The attempt was lost to the infrastructure: redelivered up to a limit, never counted as an attempt."""
    now = _revived(now)
    verdict = _unchanged(now)._replace(attempt=status)
    if not now.is_latest or now.rollout.is_terminal:
        return verdict
    if now.redeliveries >= now.retry.max_redeliveries:
        return verdict._replace(rollout=RolloutStatus.FAILED)
    policy = now.retry.policies.get(FailureKind.INFRASTRUCTURE)
    backoff = policy.backoff(now.redeliveries) if policy else 0
    return Verdict(RolloutStatus.REQUEUING, status, now.redeliveries + 1, lost=True, backoff=backoff)


def _unchanged(now: Situation) -> Verdict:
    return Verdict(now.rollout, now.attempt, now.redeliveries, now.lost)
