"""The report of a run as one HTML page: no script, nothing from elsewhere, open it from the file.

Its parts are made in `sections`; this puts them under headings, with the stylesheet inside.
"""

from importlib.resources import files
from typing import Final

from agentlightning.trainer.report import sections
from agentlightning.trainer.report.markup import Markup, joined, tag
from agentlightning.trainer.report.phrases import comparison, headline
from agentlightning.trainer.report.reading import view_of
from agentlightning.trainer.report.view import RunView
from agentlightning.types import Run

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
"""Nothing is loaded and nothing runs, even if something in the page said so."""

_PARTS: Final = (
    ("prompt", "Best prompt", sections.prompts),
    ("scores", "Scores", sections.scores),
    ("search", "Search", sections.search),
    ("candidates", "Candidates", sections.candidates),
    ("tasks", "Validation tasks", sections.tasks),
    ("cost", "Failures and cost", sections.cost),
    ("settings", "Settings", sections.settings),
    ("commands", "Commands", sections.commands),
)


def html_page(run: Run) -> str:
    """The report of a run as an HTML document, from its record in the store."""
    view = view_of(run)
    parts = [(name, title, content) for name, title, of in _PARTS if (content := of(view))]
    links = [tag("li", tag("a", title, href=f"#{name}")) for name, title, _ in parts]
    body = [tag("section", tag("h2", title), content, id=name) for name, title, content in parts]
    page = tag(
        "html",
        tag("head", *_head(view)),
        tag("body", _header(view), tag("nav", tag("ul", links), aria_label="Parts of the report"), tag("main", body)),
        lang="en",
    )
    return f"<!doctype html>\n{page}\n"


def _head(view: RunView) -> list[Markup]:
    style = (files(__package__) / "page.css").read_text(encoding="utf-8")
    return [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{view.algorithm} {view.run_id}"),
        tag("style", Markup(style)),
    ]


def _header(view: RunView) -> Markup:
    lines = [tag("p", tag("strong", view.status), f" {view.run_id}")]
    lines += [tag("p", f"Stopped by {cause}", class_="stopped") for cause in (view.failure, view.stopped_by) if cause]
    lines += [tag("p", line) for line in (headline(view), _of_test(view)) if line]
    return tag("header", tag("h1", view.algorithm or "Run"), joined(lines))


def _of_test(view: RunView) -> str:
    told = comparison(view)
    return f"On the test split: {told}" if told else ""
