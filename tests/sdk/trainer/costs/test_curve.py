"""What a run had cost by the time its best prompt changed."""

from typing import Any

import agentlightning as agl
from agentlightning.adapter import Usage
from agentlightning.trainer.costs.curve import with_costs

PRICES = {"m": (1.0, 1.0)}
MILLION = {"m": Usage(1, 1_000_000, 0)}


def rollout(number: int, mode: agl.RolloutMode = "val", **labels: str) -> agl.Rollout:
    return agl.Rollout(
        rollout_id=f"ro-{number}", input=1, start_time=float(number), status="succeeded", mode=mode, labels=labels
    )


ROLLOUTS = [
    rollout(0, "train", phase="check"),
    rollout(1),
    rollout(2, kind="optimizer"),
    rollout(3),
    rollout(4, "test"),
    rollout(5),
]


def costs_at(*made: int, usage: Any = None) -> list[float | None]:
    points = [{"rollouts": count, "score": 0.5} for count in made]
    used = {each.rollout_id: MILLION for each in ROLLOUTS} if usage is None else usage
    return [point["cost"] for point in with_costs(points, ROLLOUTS, used, PRICES)]


def test_the_check_and_the_calls_of_the_algorithm_cost_and_count_as_no_rollout() -> None:
    assert costs_at(1, 2) == [2.0, 4.0]


def test_the_test_split_is_no_part_of_the_search() -> None:
    assert costs_at(3) == [5.0]


def test_from_a_call_without_a_price_on_the_cost_is_unknown() -> None:
    used = {"ro-1": MILLION, "ro-3": {"other": Usage(1, 1, 1)}}
    assert costs_at(1, 2, 3, usage=used) == [1.0, None, None]


def test_of_more_rollouts_than_there_were_the_cost_is_unknown() -> None:
    assert costs_at(0, 9) == [None, None]


def test_when_calls_were_made_that_are_no_rollouts_nobody_knows() -> None:
    points, used = [{"rollouts": 1, "score": 0.5}], {each.rollout_id: MILLION for each in ROLLOUTS}
    without = [each for each in ROLLOUTS if not each.labels.get("kind")]
    for rollouts, cost in ((without, None), (ROLLOUTS, 2.0)):
        assert with_costs(points, rollouts, used, PRICES, has_own_calls=True)[0]["cost"] == cost
