"""What the test split says of the first and the best resources, task by task. Nothing is ever chosen by it."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from agentlightning.algorithm.evaluation import Evaluation
from agentlightning.trainer.outcome.bootstrap import interval


def compared(baseline: Sequence[Evaluation], best: Sequence[Evaluation]) -> dict[str, Any] | None:
    """The means on the tasks that both have a score on, their difference and its interval, JSON-able.

    Args:
        baseline: What became of the tasks with the first resources.
        best: What became of the same tasks, in the same order, with the best.

    Returns:
        The summary's `holdout`. None: there is no such task.
    """
    scores = [(before.score, after.score) for before, after in zip(baseline, best, strict=True)]
    pairs = [(before, after) for before, after in scores if before is not None and after is not None]
    if not pairs:
        return None
    differences = [after - before for before, after in pairs]
    return {
        "tasks": len(pairs),
        "lost": len(scores) - len(pairs),
        "baseline": fmean(before for before, _ in pairs),
        "best": fmean(after for _, after in pairs),
        "difference": fmean(differences),
        "interval": interval(differences),
    }
