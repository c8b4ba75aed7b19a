"""How sure a mean of paired differences is, and what of a test split is paired."""

from itertools import pairwise

import agentlightning as agl
import pytest
from agentlightning.algorithm import Evaluation
from agentlightning.trainer.outcome.bootstrap import interval
from agentlightning.trainer.outcome.holdout import compared


def evaluation(score: float | None) -> Evaluation:
    rollout = agl.Rollout(rollout_id="ro-1", input=1, start_time=1.0, status="succeeded")
    return Evaluation(1, rollout, score, None)


def test_a_difference_that_is_always_the_same_is_sure() -> None:
    assert interval([0.25] * 30) == (0.25, 0.25)


def test_of_shares_the_interval_is_that_of_the_binomial_distribution() -> None:
    low, high = interval([1] * 60 + [0] * 40) or (0, 0)
    assert low == pytest.approx(0.50, abs=0.011)  # 2.5 % of Binomial(100, 0.6) is 50, 97.5 % is 69
    assert high == pytest.approx(0.69, abs=0.011)


def test_of_normal_differences_it_is_two_standard_errors_wide_to_each_side() -> None:
    differences = [-1.5, -0.5, 0.5, 1.5] * 50  # a mean of 0, a standard deviation of 1.118
    low, high = interval(differences) or (0, 0)
    assert (low, high) == pytest.approx((-0.155, 0.155), abs=0.01)


def test_more_pairs_make_it_narrower() -> None:
    widths = [high - low for count in (10, 40, 160) for low, high in [interval([0, 1] * count) or (0, 0)]]
    assert all(narrower < wider for wider, narrower in pairwise(widths))


def test_the_same_pairs_give_the_same_interval() -> None:
    assert interval([0.1, 0.4, -0.2]) == interval([0.1, 0.4, -0.2])


@pytest.mark.parametrize("differences", [[], [0.5]])
def test_fewer_than_two_pairs_say_nothing_of_chance(differences: list[float]) -> None:
    assert interval(differences) is None


def test_what_is_compared_are_the_tasks_that_both_have_a_score_on() -> None:
    before, after = ([*map(evaluation, scores)] for scores in ([0.0, None, 0.5, 1.0], [1.0, 1.0, 0.5, None]))
    assert compared(before, after) == {
        "tasks": 2,
        "lost": 2,
        "baseline": 0.25,
        "best": 0.75,
        "difference": 0.5,
        "interval": (0.0, 1.0),
    }


def test_without_such_a_task_nothing_is_compared() -> None:
    assert compared([evaluation(None)], [evaluation(1.0)]) is None
