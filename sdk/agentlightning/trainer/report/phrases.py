"""What all forms of a report say in the same words: the whole in short, what failed, what it cost, how to go on."""

from agentlightning.trainer.report.view import Candidate, RunView
from agentlightning.trainer.report.words import by_kind, counted, money, score, signed


def headline(view: RunView) -> str:
    """The whole in short: scores, rollouts, time."""
    splits = (("validation", view.validation), ("test", view.test))
    parts = [f"{split} {score(of.baseline)} -> {score(of.best)}" for split, of in splits if of]
    if view.rollouts is not None:
        test = f" + {view.test_rollouts}" if view.test_rollouts else ""
        parts.append(f"{view.rollouts}{test} rollouts")
    if view.seconds is not None:
        parts.append(f"{view.seconds:.0f} s")
    return ", ".join(parts)


def comparison(view: RunView) -> str:
    """By how much the best prompt does better on the test split, and how sure that is."""
    holdout = view.holdout
    if holdout is None:
        return ""
    low, high = holdout.interval or (None, None)
    told = "no interval" if low is None or high is None else f"95 % interval {signed(low)} to {signed(high)}"
    return f"{signed(holdout.difference)} on {counted(holdout.tasks, 'task')} that nothing was chosen by, {told}"


def failures(view: RunView) -> str:
    """How many rollouts failed, of how many, and of what kind. Empty: none."""
    kinds = {kind: count for kind, count in view.failures.items() if kind != "invalid"}
    failed = sum(kinds.values()) if view.failed is None else view.failed
    if not failed:
        return ""
    total = f" of {view.rollouts + view.test_rollouts} rollouts" if view.rollouts is not None else ""
    where = "" if sum(kinds.values()) == failed else "in the search: "
    return f"{failed}{total}" + (f" ({where}{by_kind(kinds)})" if kinds else "")


def fate(view: RunView, candidate: Candidate) -> str:
    """What became of a candidate, in a line; empty: nothing is known."""
    told = ["the best"] if candidate.version == view.best_version else []
    if candidate.score is not None:
        on = f" on {counted(candidate.tasks_scored, 'task')}" if candidate.tasks_scored else ""
        told.append(f"score {score(candidate.score)}{on}")
    decided = [decision.kind for decision in view.decisions if decision.version == candidate.version]
    if decided:
        told.append(f"decided: {', '.join(decided)}")
    if candidate.dropped is not None:
        told.append(f"dropped: {candidate.dropped}")
    return "; ".join(told)


def spent(view: RunView) -> str:
    """The money, or why it is unknown."""
    if view.cost is not None:
        return money(view.cost)
    if view.tokens is None:
        return "unknown"
    if view.unmeasured_calls:
        return f"unknown, as {view.unmeasured_calls} calls do not say what they used (a stream does with include_usage)"
    return "unknown; Trainer(prices={model: (in, out)}) takes what a million tokens of each model cost"


def budget(view: RunView) -> str:
    """What is spent of the budget, and how far what was in flight went beyond it. Empty: there was none."""
    return ", ".join(
        f"{value:,.6g} of {limit:,.6g} {name.replace('_', ' ')}"
        + (f" ({value - limit:,.4g} over)" if value > limit else "")
        for name, (value, limit) in view.budget.items()
    )


def to_resume(view: RunView) -> str | None:
    """The command to go on with the run. None: it is done, or cannot be gone on with."""
    is_done = view.status == "succeeded" and view.stopped_by is None
    return None if is_done or not view.is_resumable else f"agl runs resume {view.run_id}"


def when_to_resume(view: RunView) -> str:
    """What stands before the command to go on."""
    if view.status == "running":
        return "if nobody works on it any more, go on"
    return "with a larger budget it goes on" if view.stopped_by else "go on with it"


def to_export(view: RunView) -> str:
    """The command that writes the best prompt to a file."""
    return f"agl resources export --best {view.run_id} --to best.txt"
