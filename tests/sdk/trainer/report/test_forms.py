"""The report in each form, whole. A view that is missing is written, and fails once, to be looked at."""

from collections.abc import Callable
from pathlib import Path

import agentlightning as agl
import pytest
from agentlightning.trainer.report import html_page, markdown_page, result_lines

GOLDEN = Path(__file__).parent / "golden"


def in_lines(run: agl.Run) -> str:
    return "\n".join(result_lines(run)) + "\n"


@pytest.mark.parametrize(("form", "ending"), [(in_lines, "txt"), (markdown_page, "md"), (html_page, "html")])
def test_a_run_is_told_as_it_was_looked_at(
    form: Callable[[agl.Run], str], ending: str, name: str, told: agl.Run
) -> None:
    view = GOLDEN / f"{name}.{ending}"
    if not view.exists():
        view.write_text(form(told))
        pytest.fail(f"{view} is new")
    assert form(told) == view.read_text()
