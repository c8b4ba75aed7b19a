"""The report in each form, whole. A view that is missing is written, and fails once, to be looked at."""

from collections.abc import Callable
from pathlib import Path

import agentlightning as agl
import pytest
from agentlightning.trainer.report import html_page, markdown_page, result_lines

GOLDEN = Path(__file__).parent / "golden"


def in_lines(run: agl.Run) -> str:
    return "\n".join(result_lines(run)) + "\n"


def check(file: str, told: str) -> None:
    view = GOLDEN / file
    if not view.exists():
        view.write_text(told)
        pytest.fail(f"{view} is new")
    assert told == view.read_text()


@pytest.mark.parametrize(("form", "ending"), [(in_lines, "txt"), (markdown_page, "md")])
def test_a_run_is_told_as_it_was_looked_at(
    form: Callable[[agl.Run], str], ending: str, name: str, told: agl.Run
) -> None:
    check(f"{name}.{ending}", form(told))


def test_a_page_with_all_there_is_looks_as_it_was_looked_at(runs: dict[str, agl.Run]) -> None:
    check("made.html", html_page(runs["made"]))
