"""The one place that reads a run's record for its report. What the record does not tell is unknown."""

from collections.abc import Mapping, Sequence

from agentlightning.adapter import Usage
from agentlightning.trainer.report.record import Record
from agentlightning.trainer.report.view import (
    Candidate,
    Decision,
    Holdout,
    Pass,
    Point,
    Prompt,
    RunView,
    Scores,
    TaskScores,
)
from agentlightning.types import Run


def view_of(run: Run) -> RunView:
    """What is known of a run, as its record in the store tells it."""
    summary = Record(run.summary)
    candidates = [_candidate(each) for each in summary.records("candidates") if each.text("version")]
    best_version = summary.text("best_version")
    holdout = _holdout(summary.record("holdout"))
    return RunView(
        run_id=run.run_id,
        algorithm=run.algorithm,
        status=run.status,
        failure=None if run.failure is None else str(run.failure),
        stopped_by=summary.text("stopped_by"),
        is_resumable=bool(Record(run.config).fields.get("started")),
        passes=[_pass(mode, summary.record(mode)) for mode in ("train", "val") if summary.record(mode)],
        validation=_scores(summary.record("validation"))
        or _scores(Record({"baseline": summary.number("baseline_score"), "best": summary.number("best_score")})),
        test=_scores(summary.record("test")) or (Scores(holdout.baseline, holdout.best) if holdout else None),
        holdout=holdout,
        prompts=_prompts(summary, candidates, best_version),
        best_version=best_version,
        candidates=candidates,
        decisions=[_decision(each) for each in summary.records("decisions")],
        curve=[point for each in summary.records("curve") if (point := _point(each))],
        tasks=[_task(each) for each in summary.records("tasks")],
        rollouts=summary.count("rollouts"),
        test_rollouts=summary.count("test_rollouts") or 0,
        optimizer_calls=summary.count("optimizer_calls"),
        failed=summary.count("failed"),
        failures=summary.counts("failures"),
        retried=summary.count("retried"),
        tokens=_tokens(summary),
        cost=summary.number("cost"),
        seconds=summary.number("seconds"),
        budget=_budget(summary.record("budget")),
        settings=summary.record("settings").fields,
        prompt_path=summary.text("prompt_path"),
        report_paths=summary.texts("report_paths"),
    )


def _pass(mode: str, told: Record) -> Pass:
    return Pass(mode, told.number("mean_reward"), told.counts("statuses"))


def _scores(told: Record) -> Scores | None:
    scores = Scores(told.number("baseline"), told.number("best"))
    return None if scores.best is None else scores


def _holdout(told: Record) -> Holdout | None:
    tasks, baseline, best = told.count("tasks"), told.number("baseline"), told.number("best")
    if not tasks or baseline is None or best is None:
        return None
    return Holdout(tasks, baseline, best, best - baseline, _pair(told.fields.get("interval")))


def _pair(told: object) -> tuple[float, float] | None:
    match told:
        case [int() | float() as low, int() | float() as high]:
            return float(low), float(high)
    return None


def _budget(told: Record) -> dict[str, tuple[float, float]]:
    return {name: pair for name, value in told.fields.items() if (pair := _pair(value))}


def _candidate(told: Record) -> Candidate:
    return Candidate(
        version=told.text("version") or "",
        parent=told.text("parent"),
        step=told.text("step"),
        templates=_templates(told),
        critique=told.text("critique"),
        edit_faults=told.texts("edit_faults"),
        dropped=told.text("dropped"),
        score=told.number("score"),
        tasks_scored=told.count("tasks_scored"),
        at_rollouts=told.count("at_rollouts"),
    )


def _templates(told: Record) -> dict[str, str]:
    named = told.record("templates")
    texts = {name: text for name in named.fields if (text := named.text(name))}
    return texts or {"": told.text("template") or ""}


def _prompts(summary: Record, candidates: Sequence[Candidate], best_version: str | None) -> list[Prompt]:
    """All that were tuned where the candidates tell it, else the one that the trainer saw."""
    templates = {candidate.version: candidate.templates for candidate in candidates if candidate.dropped is None}
    first, best = next(iter(templates.values()), {}), templates.get(best_version or "", {})
    if len(first) > 1 and first.keys() == best.keys():
        return [Prompt(name, first[name], best[name]) for name in first]
    before, after = summary.text("initial_prompt"), summary.text("best_prompt")
    return [] if before is None or after is None else [Prompt("", before, after)]


def _decision(told: Record) -> Decision:
    numbers = {name: value for name, value in told.fields.items() if name not in ("step", "kind", "version")}
    return Decision(told.text("step") or "", told.text("kind") or "", told.text("version"), numbers)


def _point(told: Record) -> Point | None:
    score = told.number("score")
    if score is None:
        return None
    return Point(told.count("rollouts"), told.number("cost"), told.text("version") or "", score)


def _task(told: Record) -> TaskScores:
    return TaskScores(
        str(told.fields.get("id", "")), told.text("input") or "", told.number("before"), told.number("after")
    )


def _tokens(summary: Record) -> dict[str, Usage] | None:
    """By model; each is an object of counts, or a pair of those sent and those that came back."""
    if not isinstance(summary.fields.get("tokens"), Mapping):
        return None
    return {model: _usage(used) for model, used in summary.record("tokens").fields.items()}


def _usage(used: object) -> Usage:
    match used:
        case [int() as sent, int() as returned]:
            return Usage(input_tokens=sent, output_tokens=returned)
        case _:
            told = Record(used)
            return Usage(**{name: told.count(name) or 0 for name in Usage.__dataclass_fields__})
