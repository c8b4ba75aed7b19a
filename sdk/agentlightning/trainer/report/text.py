"""The report of a run in lines, for a terminal. Whatever others wrote is printed without what a terminal obeys."""

from collections.abc import Iterator
from itertools import groupby

from agentlightning.trainer.report import lineage
from agentlightning.trainer.report.phrases import (
    budget,
    comparison,
    failures,
    headline,
    spent,
    to_export,
    to_resume,
    when_to_resume,
)
from agentlightning.trainer.report.reading import view_of
from agentlightning.trainer.report.view import Candidate, RunView, Scores
from agentlightning.trainer.report.words import by_kind, changes, counted, printable, score, shortened
from agentlightning.types import Run


def result_lines(run: Run) -> list[str]:
    """What a run came to, as its record in the store tells it; the last line is the whole in short."""
    return [printable(line) for line in _lines(view_of(run))]


def _lines(view: RunView) -> Iterator[str]:
    yield f"run {view.run_id}: {view.algorithm}, {view.status}"
    if view.failure is not None:
        yield f"stopped by {view.failure}"
    if view.stopped_by is not None:
        yield f"stopped by {view.stopped_by}"
    yield from _scores(view)
    yield from _search(view)
    yield from _prompts(view)
    yield from _spending(view)
    yield from _ways_on(view)
    if view.seconds is not None:
        yield headline(view)


def _scores(view: RunView) -> Iterator[str]:
    for once in view.passes:
        yield f"{once.mode}: mean reward {score(once.mean)} ({by_kind(once.statuses)})"
    if view.validation:
        yield f"validation: {_compared(view.validation)}"
    if view.test:
        yield f"test: {_compared(view.test)}"
    if told := comparison(view):
        yield f"test, task by task: {told}"
    better, worse, same = view.better_worse_same()
    if better + worse + same:
        yield f"validation tasks: {better} better, {worse} worse, {same} the same"


def _compared(scores: Scores) -> str:
    return f"{score(scores.baseline)} with the first prompt, {score(scores.best)} with the best"


def _search(view: RunView) -> Iterator[str]:
    bests = [next(points) for _, points in groupby(view.curve, key=lambda point: point.version)]
    told = [
        f"{point.version} {score(point.score)} at {point.rollouts}" for point in bests if point.rollouts is not None
    ]
    if told:
        yield f"best so far, at so many rollouts: {', '.join(told)}"
    for candidate in lineage.to_best(view)[1:]:
        yield f"{candidate.version} from {candidate.parent}: {_why(candidate)}"


def _why(candidate: Candidate) -> str:
    return shortened(candidate.critique or "") or "no critique is known"


def _prompts(view: RunView) -> Iterator[str]:
    if view.prompts and all(prompt.first == prompt.best for prompt in view.prompts):
        yield "the best prompt is the first one: no edit did better on the whole validation set"
        return
    for prompt in view.prompts:
        if prompt.first != prompt.best:
            name = f" of {prompt.name}" if prompt.name else ""
            yield from (f"--- first prompt{name}", f"+++ best prompt{name}")
            yield from (f"{mark}{line}" for mark, line in changes(prompt.first, prompt.best))


def _spending(view: RunView) -> Iterator[str]:
    if told := failures(view):
        yield f"failed: {told}"
    if refused := view.failures.get("invalid"):
        yield f"refused before a rollout was spent: {counted(refused, 'edit')}"
    if view.tokens:
        models = (
            f"{model} {used.input_tokens:,} in, {used.output_tokens:,} out"
            + (f" ({used.calls} calls)" if used.calls else "")
            for model, used in view.tokens.items()
        )
        yield f"tokens: {', '.join(models)}"
        yield f"spent: {spent(view)}"
    if told := budget(view):
        yield f"budget: {told}"


def _ways_on(view: RunView) -> Iterator[str]:
    if view.prompt_path is not None:
        yield f"best prompt saved to {view.prompt_path}"
        yield f"use it without a server: agl.PromptTemplate.load({view.prompt_path!r})"
        yield f"write it elsewhere: {to_export(view)}"
    if view.report_paths:
        yield f"report: {' and '.join(view.report_paths)}"
    if command := to_resume(view):
        yield f"{when_to_resume(view)}: {command}"
    yield f"see this again: agl runs show {view.run_id}"
