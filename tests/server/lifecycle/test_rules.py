"""The rules as tables: what arrives, where things stand, what becomes of them. DESIGN's table is the specification."""

from typing import Any

import pytest
from agentlightning_server.lifecycle import rules
from agentlightning_server.lifecycle.states import (
    AttemptStatus as A,
)
from agentlightning_server.lifecycle.states import (
    Ended,
    FailureKind,
    Refused,
    RetryPolicy,
    RetryRules,
    Situation,
    Superseded,
    Verdict,
)
from agentlightning_server.lifecycle.states import (
    RolloutStatus as R,
)
from hypothesis import given
from hypothesis import strategies as st

RETRY_ONCE = RetryRules(max_attempts=2, retry_condition=frozenset({A.FAILED, A.TIMEOUT, A.UNRESPONSIVE}))
LIVE = Situation(R.RUNNING, A.RUNNING)


def stands(verdict: Verdict) -> tuple[R, A]:
    return verdict.rollout, verdict.attempt


@pytest.mark.parametrize(
    ("rollout", "attempt", "latest", "then"),
    [
        (R.PREPARING, A.PREPARING, True, (R.RUNNING, A.RUNNING)),
        (R.RUNNING, A.RUNNING, True, (R.RUNNING, A.RUNNING)),
        # Silent, not claimed again: it runs again and leaves the queue.
        (R.REQUEUING, A.UNRESPONSIVE, True, (R.RUNNING, A.RUNNING)),
        # Silent, rollout failed: the attempt runs again, the verdict on the rollout stands.
        (R.FAILED, A.UNRESPONSIVE, True, (R.FAILED, A.RUNNING)),
        # Evidence only.
        (R.REQUEUING, A.FAILED, True, (R.REQUEUING, A.FAILED)),
        (R.REQUEUING, A.TIMEOUT, True, (R.REQUEUING, A.TIMEOUT)),
        (R.FAILED, A.FAILED, True, (R.FAILED, A.FAILED)),
        (R.CANCELLED, A.CANCELLED, True, (R.CANCELLED, A.CANCELLED)),
        (R.SUCCEEDED, A.SUCCEEDED, True, (R.SUCCEEDED, A.SUCCEEDED)),
        (R.RUNNING, A.UNRESPONSIVE, False, (R.RUNNING, A.UNRESPONSIVE)),
        (R.REQUEUING, A.UNRESPONSIVE, False, (R.REQUEUING, A.UNRESPONSIVE)),
    ],
)
def test_a_span_is_a_sign_of_life_only_of_what_can_be_alive(
    rollout: R, attempt: A, latest: bool, then: tuple[R, A]
) -> None:
    assert stands(rules.on_span(Situation(rollout, attempt, is_latest=latest))) == then


@pytest.mark.parametrize(
    ("situation", "refusal"),
    [
        (Situation(R.RUNNING, A.CANCELLED, is_latest=False), Superseded),
        (Situation(R.REQUEUING, A.UNRESPONSIVE, is_latest=False), Superseded),
        (Situation(R.FAILED, A.UNRESPONSIVE), Ended),
        (Situation(R.FAILED, A.FAILED), Ended),
        (Situation(R.REQUEUING, A.TIMEOUT), Ended),
        (Situation(R.CANCELLED, A.CANCELLED), Ended),
        (Situation(R.SUCCEEDED, A.SUCCEEDED), Ended),
    ],
)
def test_only_the_holder_of_a_lease_heartbeats_completes_and_releases(
    situation: Situation, refusal: type[Refused]
) -> None:
    for rule in (rules.on_heartbeat, rules.on_release, lambda now: rules.on_complete(now, None)):
        with pytest.raises(refusal):
            rule(situation)


def test_a_silent_attempt_that_nobody_replaced_may_still_complete() -> None:
    assert stands(rules.on_complete(Situation(R.REQUEUING, A.UNRESPONSIVE), None)) == (R.SUCCEEDED, A.SUCCEEDED)


@pytest.mark.parametrize(
    ("kind", "then"),
    [
        (None, (R.SUCCEEDED, A.SUCCEEDED)),
        (FailureKind.AGENT, (R.FAILED, A.FAILED)),
        (FailureKind.TIMEOUT, (R.FAILED, A.TIMEOUT)),
        (FailureKind.UNRESPONSIVE, (R.FAILED, A.UNRESPONSIVE)),
        (FailureKind.CANCELLED, (R.CANCELLED, A.CANCELLED)),
        (FailureKind.INFRASTRUCTURE, (R.REQUEUING, A.FAILED)),
    ],
)
def test_completion_ends_the_attempt_as_its_holder_says(kind: FailureKind | None, then: tuple[R, A]) -> None:
    assert stands(rules.on_complete(LIVE, kind)) == then


@pytest.mark.parametrize("status", [A.FAILED, A.TIMEOUT, A.UNRESPONSIVE])
@pytest.mark.parametrize(("sequence_id", "then"), [(1, R.REQUEUING), (2, R.FAILED)])
def test_the_retry_rules_decide_after_what_they_name(status: A, sequence_id: int, then: R) -> None:
    now = LIVE._replace(sequence_id=sequence_id, retry=RETRY_ONCE)
    assert rules.on_update_attempt(now, status).rollout == then


def test_what_the_retry_condition_does_not_name_is_not_retried() -> None:
    retry = RetryRules(max_attempts=5, retry_condition=frozenset({A.TIMEOUT}))
    assert rules.on_complete(LIVE._replace(retry=retry), FailureKind.AGENT).rollout == R.FAILED


@pytest.mark.parametrize(("redeliveries", "then"), [(0, R.REQUEUING), (2, R.REQUEUING), (3, R.FAILED)])
def test_a_lost_lease_is_delivered_again_up_to_its_limit(redeliveries: int, then: R) -> None:
    verdict = rules.on_lease_expired(LIVE._replace(redeliveries=redeliveries, sequence_id=redeliveries + 1))
    assert stands(verdict) == (then, A.UNRESPONSIVE)


def test_lost_and_released_attempts_do_not_count_against_max_attempts() -> None:
    now = LIVE._replace(sequence_id=4, redeliveries=2, releases=1, retry=RETRY_ONCE)
    assert rules.on_complete(now, FailureKind.AGENT).rollout == R.REQUEUING


def test_a_loss_that_was_none_is_not_counted() -> None:
    lost = rules.on_lease_expired(LIVE)
    back = rules.on_heartbeat(Situation(lost.rollout, lost.attempt, redeliveries=lost.redeliveries, lost=lost.lost))
    assert (back.redeliveries, back.lost, stands(back)) == (0, False, (R.RUNNING, A.RUNNING))


def test_cancelling_is_final_for_what_lives_and_nothing_for_what_is_over() -> None:
    assert stands(rules.on_cancel(LIVE)) == (R.CANCELLED, A.CANCELLED)
    assert stands(rules.on_cancel(Situation(R.SUCCEEDED, A.SUCCEEDED))) == (R.SUCCEEDED, A.SUCCEEDED)


def test_an_administrator_never_changes_a_terminal_rollout_through_its_attempt() -> None:
    for status in A:
        assert rules.on_update_attempt(Situation(R.CANCELLED, A.CANCELLED), status).rollout == R.CANCELLED


def test_the_rollout_follows_its_latest_attempt_only() -> None:
    verdict = rules.on_update_attempt(Situation(R.RUNNING, A.CANCELLED, is_latest=False), A.SUCCEEDED)
    assert stands(verdict) == (R.RUNNING, A.SUCCEEDED)


@pytest.mark.parametrize("status", [R.QUEUING, R.REQUEUING, R.SUCCEEDED, R.FAILED, R.CANCELLED])
def test_a_rollout_told_where_it_stands_takes_a_live_attempt_from_its_worker(status: R) -> None:
    assert stands(rules.on_update_rollout(LIVE, status)) == (status, A.CANCELLED)


@pytest.mark.parametrize("status", [R.PREPARING, R.RUNNING])
def test_a_rollout_told_that_it_is_at_work_leaves_a_live_attempt_to_its_worker(status: R) -> None:
    verdict = rules.on_update_rollout(Situation(R.REQUEUING, A.RUNNING), status)
    assert stands(verdict) == (status, A.RUNNING)


KINDS = {
    FailureKind.AGENT: lambda now: rules.on_complete(now, FailureKind.AGENT),
    FailureKind.TIMEOUT: rules.on_timeout,
    FailureKind.UNRESPONSIVE: rules.on_silence,
}


def policy_for(kind: FailureKind, policy: RetryPolicy, **situation: Any) -> Situation:
    return LIVE._replace(retry=RetryRules(max_attempts=9, policies={kind: policy}), **situation)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_with_a_policy_of_its_own_is_retried_as_if_the_condition_named_it(kind: FailureKind) -> None:
    assert KINDS[kind](policy_for(kind, RetryPolicy())).rollout == R.REQUEUING


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_says_nothing_about_other_kinds(kind: FailureKind) -> None:
    others = {other: RetryPolicy() for other in KINDS if other is not kind}
    now = LIVE._replace(retry=RetryRules(max_attempts=9, policies=others))
    assert KINDS[kind](now).rollout == R.FAILED


@pytest.mark.parametrize(("earlier", "then"), [(0, R.REQUEUING), (1, R.REQUEUING), (2, R.FAILED)])
def test_a_policy_limits_the_retries_of_its_kind(earlier: int, then: R) -> None:
    now = policy_for(FailureKind.AGENT, RetryPolicy(max_retries=2), failures={FailureKind.AGENT: earlier})
    assert KINDS[FailureKind.AGENT](now).rollout == then


def test_no_policy_allows_more_than_the_attempts_in_all() -> None:
    now = policy_for(FailureKind.AGENT, RetryPolicy(max_retries=99), sequence_id=9)
    assert KINDS[FailureKind.AGENT](now).rollout == R.FAILED


@pytest.mark.parametrize(("retries", "pause"), [(0, 10), (1, 30), (2, 90), (3, 100), (1000, 100)])
def test_each_pause_is_longer_than_the_one_before_up_to_the_longest(retries: int, pause: int) -> None:
    policy = RetryPolicy(initial_backoff=10, backoff_multiplier=3, max_backoff=100)
    now = policy_for(FailureKind.TIMEOUT, policy, failures={FailureKind.TIMEOUT: retries})
    assert KINDS[FailureKind.TIMEOUT](now).backoff == pause


@pytest.mark.parametrize(("redeliveries", "pause"), [(0, 10), (1, 20), (2, 40)])
def test_a_redelivery_pauses_as_the_policy_for_the_infrastructure_says(redeliveries: int, pause: int) -> None:
    policy = RetryPolicy(initial_backoff=10, max_backoff=100)
    now = policy_for(FailureKind.INFRASTRUCTURE, policy, redeliveries=redeliveries)
    assert rules.on_lease_expired(now).backoff == pause


def test_a_failure_that_is_the_last_waits_for_nothing() -> None:
    policy = RetryPolicy(max_retries=0, initial_backoff=10, max_backoff=100)
    assert KINDS[FailureKind.AGENT](policy_for(FailureKind.AGENT, policy)).backoff == 0


situations = st.builds(
    Situation,
    rollout=st.sampled_from(R),
    attempt=st.sampled_from(A),
    is_latest=st.booleans(),
    sequence_id=st.integers(1, 6),
    redeliveries=st.integers(0, 4),
    releases=st.integers(0, 2),
    lost=st.booleans(),
    retry=st.builds(
        RetryRules, max_attempts=st.integers(1, 4), retry_condition=st.frozensets(st.sampled_from(A), max_size=3)
    ),
)
from_attempts = st.sampled_from(
    [
        rules.on_span,
        rules.on_heartbeat,
        lambda now: rules.on_complete(now, None),
        lambda now: rules.on_complete(now, FailureKind.AGENT),
        lambda now: rules.on_complete(now, FailureKind.INFRASTRUCTURE),
        rules.on_lease_expired,
        rules.on_timeout,
        rules.on_silence,
        lambda now: rules.on_update_attempt(now, A.SUCCEEDED),
        lambda now: rules.on_update_attempt(now, A.RUNNING),
    ]
)


@given(situations, from_attempts)
def test_nothing_about_an_attempt_changes_a_terminal_rollout(now: Situation, rule) -> None:  # type: ignore[no-untyped-def]
    try:
        verdict = rule(now)
    except Refused:
        return
    if now.rollout.is_terminal or not now.is_latest:
        assert verdict.rollout == now.rollout


@given(situations, from_attempts)
def test_a_rollout_that_runs_has_a_live_latest_attempt_afterwards(now: Situation, rule) -> None:  # type: ignore[no-untyped-def]
    if not now.is_latest or (now.rollout in (R.PREPARING, R.RUNNING)) != now.attempt.is_live:
        return
    try:
        verdict = rule(now)
    except Refused:
        return
    if verdict.rollout in (R.PREPARING, R.RUNNING):
        assert verdict.attempt.is_live
