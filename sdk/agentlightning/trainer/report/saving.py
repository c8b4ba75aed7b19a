"""Writes the reports of a run to files. A report that cannot be written does not cost the run."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from agentlightning.trainer.report.html import html_page
from agentlightning.trainer.report.markdown import markdown_page
from agentlightning.types import Run

_log = logging.getLogger(__name__)

_FORMS: Final[Mapping[str, Callable[[Run], str]]] = {"report.md": markdown_page, "report.html": html_page}


def report_paths(folder: Path) -> list[str]:
    """Where the reports of a run stand in its folder."""
    return [str(folder / name) for name in _FORMS]


def save_reports(run: Run, folder: Path) -> None:
    """Write the reports of a run into its folder, from its record in the store."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, form in _FORMS.items():
            (folder / name).write_text(form(run), encoding="utf-8")
    except Exception:  # what was found is in the store, and all of it can be shown again
        _log.exception(
            "The report of %s could not be written: try agl runs show %s --html FILE", run.run_id, run.run_id
        )
