"""A run's record in types: whatever is missing or odd is unknown, and no report fails for it."""

from typing import Any

import agentlightning as agl
import pytest
from agentlightning.adapter import Usage
from agentlightning.trainer.report import html_page, lineage, markdown_page, result_lines
from agentlightning.trainer.report.reading import view_of
from agentlightning.trainer.report.view import Prompt


def run(summary: Any) -> agl.Run:
    return agl.Run(run_id="run-1", algorithm="APO", create_time=0.0, summary=summary)


ODD = ["text", 1, True, None, [1, None, "a"], {"a": 1}, [{}], [{"version": "v1", "score": "high", "rollouts": -1}]]


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_an_odd_value_anywhere_is_unknown(odd: Any, summary: dict[str, Any]) -> None:
    for told in (odd, *({**summary, name: odd} for name in summary)):
        assert result_lines(run(told))
        assert markdown_page(run(told))
        assert html_page(run(told))


def test_tokens_are_pairs_or_counts() -> None:
    tokens = {"a": [3, 4], "b": {"calls": 1, "input_tokens": 5, "output_tokens": 6, "unmeasured_calls": 0}}
    assert view_of(run({"tokens": tokens})).tokens == {"a": Usage(0, 3, 4), "b": Usage(1, 5, 6)}


def test_the_scores_of_the_search_stand_for_those_that_the_trainer_noted() -> None:
    scores = view_of(run({"baseline_score": 0.25, "best_score": 0.5})).validation
    assert scores is not None
    assert (scores.baseline, scores.best) == (0.25, 0.5)


def test_several_templates_that_were_tuned_together_are_told_one_by_one() -> None:
    first, best = {"plan": "a", "answer": "b"}, {"plan": "a", "answer": "c"}
    candidates = [{"version": "v0", "templates": first}, {"version": "v1", "templates": best}]
    view = view_of(run({"candidates": candidates, "best_version": "v1", "initial_prompt": "a", "best_prompt": "a"}))
    assert view.prompts == [Prompt("plan", "a", "a"), Prompt("answer", "b", "c")]


def test_candidates_stand_after_what_they_were_made_from(runs: dict[str, agl.Run]) -> None:
    ordered = lineage.in_order(view_of(runs["made"]).candidates)
    assert [(depth, candidate.version) for depth, candidate in ordered] == [
        (0, "v0"),
        (1, "v1"),
        (2, "v3"),
        (2, "v4"),
        (1, "v2"),
    ]


def test_parents_that_go_in_a_circle_hide_no_candidate() -> None:
    circle = [{"version": "a", "parent": "b"}, {"version": "b", "parent": "a"}, {"version": "c", "parent": "gone"}]
    view = view_of(run({"candidates": circle, "best_version": "a"}))
    assert {candidate.version for _, candidate in lineage.in_order(view.candidates)} == {"a", "b", "c"}
    assert [candidate.version for candidate in lineage.to_best(view)] == ["b", "a"]


def test_tasks_that_got_worse_come_first_and_unchanged_ones_last() -> None:
    tasks = [{"id": i, "before": 0.5, "after": after} for i, after in enumerate([0.5, 1.0, 0.0, None])]
    assert [task.id for task in view_of(run({"tasks": tasks})).tasks_by_change()] == ["2", "1", "0", "3"]
