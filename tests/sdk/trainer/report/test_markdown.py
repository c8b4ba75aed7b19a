"""What others wrote means nothing to Markdown."""

from typing import Any

import agentlightning as agl
from agentlightning.trainer.report import markdown_page, result_lines


def run(**summary: Any) -> agl.Run:
    return agl.Run(run_id="run-1", algorithm="APO", create_time=0.0, summary=summary)


def test_a_prompt_with_fences_stands_in_a_longer_one() -> None:
    prompt = "Answer so:\n````\n{x}\n````"
    assert f"`````\n{prompt}\n`````" in markdown_page(run(initial_prompt="a", best_prompt=prompt))


def test_a_cell_of_a_table_stays_one() -> None:
    task = {"id": 1, "input": "a | b\n# c <img> [d](e)", "before": 0.0, "after": 1.0}
    assert r"| 1 | a \| b \# c \<img\> \[d\](e) | 0.00 | 1.00 | +1.00 |" in markdown_page(run(tasks=[task]))


def test_nothing_reaches_the_terminal_that_it_obeys() -> None:
    hostile = "red \x1b[31m\x07 \u202e"
    told = run(initial_prompt="a", best_prompt=hostile, stopped_by=hostile, prompt_path=hostile)
    text = "\n".join(result_lines(told))
    assert "red  [31m" in text
    assert text.replace("\n", "").isprintable()
    assert markdown_page(told).replace("\n", "").isprintable()
