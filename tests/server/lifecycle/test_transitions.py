"""Every event in every situation: the whole table, of which DESIGN's is the part that is not obvious.

Columns are the statuses of the rollout, rows those of the attempt. A cell says where rollout and attempt stand then:
`=` as before, `then` as the event says; or how it is refused, which changes nothing.
"""

from collections.abc import Callable
from functools import partial
from itertools import product

import pytest
from agentlightning_server.lifecycle import rules
from agentlightning_server.lifecycle.states import (
    AttemptStatus,
    FailureKind,
    Refused,
    RetryRules,
    RolloutStatus,
    Situation,
    Verdict,
)

Rule = Callable[[Situation], Verdict]

SPAN = """
                                     queuing,preparing,running   requeuing         failed      succeeded,cancelled
preparing,running                    running/running             running/running   =/running   =/running
unresponsive                         =/=                         running/running   =/running   =/=
succeeded,failed,timeout,cancelled   =/=                         =/=               =/=         =/=
"""
HOLDER = """
                                     queuing,preparing,running   requeuing         failed      succeeded,cancelled
preparing,running                    then                        then              Ended       Ended
unresponsive                         Ended                       then              Ended       Ended
succeeded,failed,timeout,cancelled   Ended                       Ended             Ended       Ended
"""
DEADLINE = """
                                                  queuing,preparing,running,requeuing   failed,succeeded,cancelled
preparing,running                                 then                                  =/then
unresponsive,succeeded,failed,timeout,cancelled   =/=                                   =/=
"""
CANCELLATION = """
                                                  queuing,preparing,running,requeuing   failed,succeeded,cancelled
preparing,running                                 cancelled/cancelled                   =/=
unresponsive,succeeded,failed,timeout,cancelled   cancelled/=                           =/=
"""
NEXT_ATTEMPT = """
                                                  queuing,preparing,running,requeuing,failed,succeeded,cancelled
preparing,running                                 =/cancelled
unresponsive,succeeded,failed,timeout,cancelled   =/=
"""
ATTEMPT_TOLD = """
                                                  queuing,preparing,running,requeuing   failed,succeeded,cancelled
preparing,running                                 then                                  =/then
unresponsive,succeeded,failed,timeout,cancelled   then                                  =/then
"""
ROLLOUT_TOLD = """
                                                  queuing,preparing,running,requeuing,failed,succeeded,cancelled
preparing,running                                 then/cancelled
unresponsive,succeeded,failed,timeout,cancelled   then/=
"""
ROLLOUT_TOLD_THAT_IT_IS_AT_WORK = """
                                                  queuing,preparing,running,requeuing,failed,succeeded,cancelled
preparing,running                                 then/=
unresponsive,succeeded,failed,timeout,cancelled   then/=
"""
# The rows of an attempt that is not the latest: its rollout may stand anywhere, and never moves.
OLD_SPAN = {"live": "=/running", "ended": "=/="}
OLD_HOLDER = {"live": "Superseded", "ended": "Superseded"}
OLD_DEADLINE = {"live": "=/then", "ended": "=/="}
OLD_TOLD = {"live": "=/then", "ended": "=/then"}
OLD_TOLD_TO_LIVE = {"live": "TransitionRefused", "ended": "TransitionRefused"}

COMPLETED = {
    None: "succeeded/succeeded",
    FailureKind.AGENT: "failed/failed",
    FailureKind.TIMEOUT: "failed/timeout",
    FailureKind.UNRESPONSIVE: "failed/unresponsive",
    FailureKind.CANCELLED: "cancelled/cancelled",
    FailureKind.INFRASTRUCTURE: "requeuing/failed",
}
"""Where rollout and attempt stand, when nothing is tried again."""
TOLD = {
    AttemptStatus.PREPARING: "preparing/preparing",
    AttemptStatus.RUNNING: "running/running",
    AttemptStatus.SUCCEEDED: "succeeded/succeeded",
    AttemptStatus.FAILED: "failed/failed",
    AttemptStatus.TIMEOUT: "failed/timeout",
    AttemptStatus.UNRESPONSIVE: "failed/unresponsive",
    AttemptStatus.CANCELLED: "cancelled/cancelled",
}
TOLD_ROLLOUT = {
    RolloutStatus.QUEUING: ROLLOUT_TOLD,
    RolloutStatus.PREPARING: ROLLOUT_TOLD_THAT_IT_IS_AT_WORK,
    RolloutStatus.RUNNING: ROLLOUT_TOLD_THAT_IT_IS_AT_WORK,
    RolloutStatus.REQUEUING: ROLLOUT_TOLD,
    RolloutStatus.SUCCEEDED: ROLLOUT_TOLD,
    RolloutStatus.FAILED: ROLLOUT_TOLD,
    RolloutStatus.CANCELLED: ROLLOUT_TOLD,
}


def completion(kind: FailureKind | None) -> Rule:
    return partial(rules.on_complete, failure=kind)


def told(status: AttemptStatus) -> Rule:
    return partial(rules.on_update_attempt, status=status)


LATEST = [
    pytest.param(rules.on_span, SPAN, "", id="span"),
    pytest.param(rules.on_heartbeat, HOLDER, "running/running", id="heartbeat"),
    pytest.param(rules.on_release, HOLDER, "requeuing/cancelled", id="release"),
    *(pytest.param(completion(kind), HOLDER, then, id=f"completion: {kind}") for kind, then in COMPLETED.items()),
    pytest.param(rules.on_lease_expired, DEADLINE, "requeuing/unresponsive", id="lease expired"),
    pytest.param(rules.on_timeout, DEADLINE, "failed/timeout", id="timeout"),
    pytest.param(rules.on_silence, DEADLINE, "failed/unresponsive", id="silence"),
    pytest.param(rules.on_cancel, CANCELLATION, "", id="cancellation"),
    pytest.param(rules.on_superseded, NEXT_ATTEMPT, "", id="next attempt"),
    *(pytest.param(told(status), ATTEMPT_TOLD, then, id=f"attempt told: {status}") for status, then in TOLD.items()),
    *(
        pytest.param(partial(rules.on_update_rollout, status=status), text, status, id=f"rollout told: {status}")
        for status, text in TOLD_ROLLOUT.items()
    ),
]
OLD = [
    pytest.param(rules.on_span, OLD_SPAN, "", id="span"),
    pytest.param(rules.on_heartbeat, OLD_HOLDER, "", id="heartbeat"),
    pytest.param(rules.on_release, OLD_HOLDER, "", id="release"),
    *(pytest.param(completion(kind), OLD_HOLDER, "", id=f"completion: {kind}") for kind in COMPLETED),
    pytest.param(rules.on_lease_expired, OLD_DEADLINE, "unresponsive", id="lease expired"),
    pytest.param(rules.on_timeout, OLD_DEADLINE, "timeout", id="timeout"),
    pytest.param(rules.on_silence, OLD_DEADLINE, "unresponsive", id="silence"),
    *(
        pytest.param(told(status), OLD_TOLD_TO_LIVE if status.is_live else OLD_TOLD, status, id=f"told: {status}")
        for status in TOLD
    ),
]
RETRIED = [
    pytest.param(completion(FailureKind.AGENT), AttemptStatus.FAILED, id="completion: agent"),
    pytest.param(completion(FailureKind.TIMEOUT), AttemptStatus.TIMEOUT, id="completion: timeout"),
    pytest.param(completion(FailureKind.UNRESPONSIVE), AttemptStatus.UNRESPONSIVE, id="completion: unresponsive"),
    pytest.param(rules.on_timeout, AttemptStatus.TIMEOUT, id="timeout"),
    pytest.param(rules.on_silence, AttemptStatus.UNRESPONSIVE, id="silence"),
    *(
        pytest.param(told(status), status, id=f"attempt told: {status}")
        for status in (AttemptStatus.FAILED, AttemptStatus.TIMEOUT, AttemptStatus.UNRESPONSIVE)
    ),
]


def parsed(text: str) -> dict[tuple[RolloutStatus, AttemptStatus], str]:
    """The cells of a table, by rollout and attempt; it has each pair once."""
    columns, *rows = [line.split() for line in text.strip().splitlines()]
    cells = [
        ((RolloutStatus(rollout), AttemptStatus(attempt)), cell)
        for attempts, *row in rows
        for rollouts, cell in zip(columns, row, strict=True)
        for rollout, attempt in product(rollouts.split(","), attempts.split(","))
    ]
    assert sorted(pair for pair, _ in cells) == sorted(product(RolloutStatus, AttemptStatus))
    return dict(cells)


def expected(cell: str, then: str, rollout: RolloutStatus, attempt: AttemptStatus) -> str:
    """A cell in full."""
    said = then if cell == "then" else cell.replace("then", then.split("/")[-1])
    if "/" not in said:
        return said
    said_rollout, said_attempt = said.split("/")
    return f"{rollout if said_rollout == '=' else said_rollout}/{attempt if said_attempt == '=' else said_attempt}"


def happens(rule: Rule, now: Situation) -> str:
    """What a rule says, as a cell has it."""
    try:
        verdict = rule(now)
    except Refused as refusal:
        return type(refusal).__name__
    return f"{verdict.rollout}/{verdict.attempt}"


@pytest.mark.parametrize("lost", [False, True], ids=["", "lost"])
@pytest.mark.parametrize(("rule", "text", "then"), LATEST)
def test_the_latest_attempt_moves_its_rollout_as_the_table_says(rule: Rule, text: str, then: str, lost: bool) -> None:
    def so_already(rollout: RolloutStatus, attempt: AttemptStatus) -> bool:
        return {ATTEMPT_TOLD: attempt, ROLLOUT_TOLD: rollout}.get(text) == then.split("/")[-1]

    cells = {pair: "=/=" if so_already(*pair) else cell for pair, cell in parsed(text).items()}
    assert {pair: happens(rule, Situation(*pair, lost=lost, redeliveries=lost)) for pair in cells} == {
        pair: expected(cell, then, *pair) for pair, cell in cells.items()
    }


@pytest.mark.parametrize("lost", [False, True], ids=["", "lost"])
@pytest.mark.parametrize(("rule", "row", "then"), OLD)
def test_a_superseded_attempt_never_moves_its_rollout(rule: Rule, row: dict[str, str], then: str, lost: bool) -> None:
    for rollout, attempt in product(RolloutStatus, AttemptStatus):
        cell = "=/=" if attempt == then else row["live" if attempt.is_live else "ended"]
        now = Situation(rollout, attempt, is_latest=False, lost=lost, redeliveries=lost)
        assert happens(rule, now) == expected(cell, then, rollout, attempt)


@pytest.mark.parametrize(("rule", "status"), RETRIED)
@pytest.mark.parametrize("uncounted", [{}, {"redeliveries": 2}, {"releases": 2}, {"redeliveries": 1, "releases": 1}])
def test_what_ended_is_tried_again_where_its_status_is_named_until_attempts_run_out(
    rule: Rule, status: AttemptStatus, uncounted: dict[str, int]
) -> None:
    for named, counted in product([True, False], [1, 2, 3]):
        conditions = frozenset({status}) if named else frozenset({*TOLD} - {status})
        retry = RetryRules(max_attempts=3, retry_condition=conditions)
        sequence_id = counted + sum(uncounted.values())
        now = Situation(RolloutStatus.RUNNING, AttemptStatus.RUNNING, sequence_id=sequence_id, retry=retry, **uncounted)
        rollout = RolloutStatus.REQUEUING if named and counted < 3 else RolloutStatus.FAILED
        assert happens(rule, now) == f"{rollout}/{status}"


@pytest.mark.parametrize("rule", [rules.on_lease_expired, completion(FailureKind.INFRASTRUCTURE)])
def test_what_was_lost_is_delivered_again_until_redeliveries_run_out_whatever_was_tried(rule: Rule) -> None:
    for redeliveries, sequence_id in product(range(4), range(1, 6)):
        now = Situation(RolloutStatus.RUNNING, AttemptStatus.RUNNING, True, sequence_id, redeliveries)
        verdict = rule(now)
        again = redeliveries < RetryRules().max_redeliveries
        assert (verdict.rollout is RolloutStatus.REQUEUING, verdict.lost) == (again, again)


@pytest.mark.parametrize(("rule", "_text", "_then"), LATEST)
def test_redeliveries_are_the_attempts_that_are_lost(rule: Rule, _text: str, _then: str) -> None:
    for rollout, attempt, lost in product(RolloutStatus, AttemptStatus, [False, True]):
        now = Situation(rollout, attempt, lost=lost, redeliveries=1 + lost)
        try:
            verdict = rule(now)
        except Refused:
            continue
        assert verdict.redeliveries - now.redeliveries == verdict.lost - now.lost


@pytest.mark.parametrize(
    "rule",
    [rules.on_span, rules.on_heartbeat, rules.on_release, completion(None), completion(FailureKind.AGENT)],
)
def test_a_loss_is_taken_back_when_the_attempt_is_taken_up_again(rule: Rule) -> None:
    now = Situation(RolloutStatus.REQUEUING, AttemptStatus.UNRESPONSIVE, lost=True, redeliveries=2)
    verdict = rule(now)
    assert (verdict.lost, verdict.redeliveries) == (False, 1)
    assert rule(now._replace(lost=False)).redeliveries == 2
