"""The report of a run as Markdown, to read as it stands or to paste into a review.

What others wrote stands in fences longer than any it holds, or has each letter that Markdown obeys escaped.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from agentlightning.trainer.report import lineage
from agentlightning.trainer.report.phrases import (
    budget,
    comparison,
    failures,
    fate,
    headline,
    spent,
    to_export,
    to_resume,
)
from agentlightning.trainer.report.reading import view_of
from agentlightning.trainer.report.view import Candidate, Prompt, RunView, TaskScores
from agentlightning.trainer.report.words import by_kind, changes, counted, money, printable, score, shortened, signed
from agentlightning.types import Run

_OBEYED: Final = re.compile(r"([\\`*_{}\[\]<>#|~$&!@])")
_MOST_TASKS: Final = 50
"""How many validation tasks stand in the table; the page has all of them."""
_LINES: Final = "\n\t"


def markdown_page(run: Run) -> str:
    """The report of a run as Markdown, from its record in the store."""
    view = view_of(run)
    parts = (_head, _scores, _prompts, _search, _candidates, _tasks, _cost, _commands)
    return "\n\n".join(block for part in parts for block in part(view)) + "\n"


def _head(view: RunView) -> Iterator[str]:
    yield f"# {_plain(view.algorithm or 'Run')} {view.run_id}"
    yield f"**{view.status}**. {headline(view)}".rstrip(". ") + "."
    for cause in (view.failure, view.stopped_by):
        if cause:
            yield f"Stopped by {_plain(cause)}"


def _scores(view: RunView) -> Iterator[str]:
    yield "## Scores"
    rows = [
        [split, score(of.baseline), score(of.best)]
        for split, of in (("validation", view.validation), ("test", view.test))
        if of
    ]
    rows += [[once.mode, score(once.mean), by_kind(once.statuses)] for once in view.passes]
    if not rows:
        yield "No scores are known."
        return
    titles = ("split", "mean reward", "rollouts") if view.passes else ("split", "first prompt", "best prompt")
    yield _table(titles, rows)
    if view.holdout:
        yield f"Test split: {comparison(view)} (a paired bootstrap over the tasks)."


def _prompts(view: RunView) -> Iterator[str]:
    for prompt in view.prompts:
        yield f"## Best prompt{f': {_plain(prompt.name)}' if prompt.name else ''}"
        yield _fenced(prompt.best)
        yield _changed(prompt)


def _changed(prompt: Prompt) -> str:
    if prompt.first == prompt.best:
        return "It is the first one: no edit did better."
    diff = "\n".join(f"{mark}{line}" for mark, line in changes(prompt.first, prompt.best))
    return f"What changed:\n\n{_fenced(diff, 'diff')}"


def _search(view: RunView) -> Iterator[str]:
    if not view.curve:
        return
    yield "## Search"
    rows = [
        [
            point.version,
            "" if point.rollouts is None else str(point.rollouts),
            "unknown" if point.cost is None else money(point.cost),
            score(point.score),
        ]
        for point in view.curve
    ]
    yield _table(("best so far", "after rollouts", "after spending", "score"), rows)


def _candidates(view: RunView) -> Iterator[str]:
    if not view.candidates:
        return
    yield "## Candidates"
    items = (_item(view, depth, candidate) for depth, candidate in lineage.in_order(view.candidates))
    yield "\n".join(items)


def _item(view: RunView, depth: int, candidate: Candidate) -> str:
    told = shortened(fate(view, candidate), 200)
    parts = [f"**{_plain(candidate.version)}**", _plain(told), _plain(shortened(candidate.critique or "", 300))]
    return f"{'  ' * depth}- {'. '.join(part for part in parts if part)}"


def _tasks(view: RunView) -> Iterator[str]:
    if not view.tasks:
        return
    yield "## Validation tasks"
    better, worse, same = view.better_worse_same()
    yield f"{better} better, {worse} worse, {same} the same."
    rows = [
        [task.id, shortened(task.input), score(task.before), score(task.after), _change(task)]
        for task in view.tasks_by_change()[:_MOST_TASKS]
    ]
    yield _table(("task", "input", "first prompt", "best prompt", "change"), rows)
    if left := len(view.tasks) - len(rows):
        yield f"{counted(left, 'task')} more stand in the HTML report."


def _change(task: TaskScores) -> str:
    return "" if task.change is None else signed(task.change)


def _cost(view: RunView) -> Iterator[str]:
    yield "## Failures and cost"
    facts = [
        ("failed", failures(view) or ("none" if view.failed == 0 else "unknown")),
        ("tried again", view.retried),
        ("edits refused before a rollout", view.failures.get("invalid")),
        ("rollouts", view.rollouts),
        ("rollouts of the test split", view.test_rollouts or None),
        ("calls of the optimiser", view.optimizer_calls),
        ("money", spent(view)),
        ("budget", budget(view) or None),
        ("seconds", None if view.seconds is None else f"{view.seconds:.0f}"),
    ]
    yield "\n".join(f"- {name}: {_plain(str(value))}" for name, value in facts if value is not None)
    if view.tokens:
        rows = [
            [model, str(used.calls or ""), f"{used.input_tokens:,}", f"{used.output_tokens:,}"]
            for model, used in view.tokens.items()
        ]
        yield _table(("model", "calls", "tokens in", "tokens out"), rows)


def _commands(view: RunView) -> Iterator[str]:
    yield "## Commands"
    told = [to_resume(view), f"agl runs show {view.run_id}", to_export(view) if view.prompts else None]
    yield _fenced("\n".join(command for command in told if command))


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *([_plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """A text in one line that means nothing to Markdown."""
    return _OBEYED.sub(r"\\\1", printable(" ".join(text.split())))


def _fenced(text: str, language: str = "") -> str:
    """A text in its own lines, as it is."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{printable(text, keep=_LINES)}\n{fence}"
