from typing import Any

import pytest
from agentlightning import Failure, Rollout
from agentlightning.algorithm import Evaluation
from agentlightning_algorithms.apo.digest import digest


def came_to(reward: float | None, failure: Failure | None = None) -> Evaluation:
    rollout = Rollout(rollout_id="ro-1", input="", start_time=0, status="failed" if failure else "succeeded")
    return Evaluation("", rollout, reward, failure)


def test_what_went_worst_comes_first_and_one_success_last() -> None:
    evaluations = [came_to(reward) for reward in (1.0, 0.5, 1.0, 0.0)]
    text = digest(evaluations, [["good"], ["half"], ["fine"], ["bad"]], perfect=1.0)
    places = [text.find(word) for word in ("bad", "half", "good")]
    assert places == sorted(places)
    assert "fine" not in text


def test_a_rollout_that_says_nothing_about_the_agent_is_left_out() -> None:
    lost = came_to(None, Failure(kind="infrastructure", message="gone"))
    assert "gone" not in digest([lost, came_to(0.0)], [["a"], ["b"]], perfect=1.0)


def test_a_failure_and_entries_about_errors_come_before_the_rest() -> None:
    failed = came_to(None, Failure(kind="agent", message="raised"))
    text = digest([failed], [["first", {"error": "broken"}, "last"]], perfect=1.0)
    places = [text.index(word) for word in ("raised", "broken", "first", "last")]
    assert places == sorted(places)


@pytest.mark.parametrize("trace", [["x" * 50_000], ["y" * 300] * 500, ["short", "z" * 9_000, "end"]])
def test_however_long_the_traces_are_the_critic_gets_about_12000_characters(trace: list[Any]) -> None:
    text = digest([came_to(0.0)] * 4, [trace] * 4, perfect=1.0)
    assert len(text) < 12_500


def test_the_beginning_and_the_end_of_what_is_too_long_are_kept() -> None:
    text = digest([came_to(0.0)], [["short", "a" * 20_000 + "b" * 20_000]], perfect=1.0)
    assert '"short"' in text
    assert '"aaa' in text and 'bbb"' in text and " [...] " in text
