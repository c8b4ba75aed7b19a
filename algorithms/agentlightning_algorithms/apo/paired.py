"""What paired scores say of challengers and finalists: pure functions of scores by task. Knows no prompt."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Literal

Scores = Mapping[int, float | None]
"""What came of each task that was tried. None: the infrastructure lost it, so it pairs with nothing."""

_REJECT_Z = 0.8
_LEAST_ERROR = 0.02
_BLOCKS_TO_ACCEPT = 2

Verdict = Literal["accept", "reject", "open"]


@dataclass(frozen=True)
class Comparison:
    """By how much a challenger is better than the incumbent on the tasks that both have a score on.

    Attributes:
        pairs: How many tasks those are.
        mean: The mean difference; positive when the challenger is better.
        error: The standard error of the mean, never less than 0.02: few equal differences prove little.
    """

    pairs: int
    mean: float
    error: float

    def verdict(self, *, blocks: int, z: float) -> Verdict:
        """What follows after so many blocks, when `z` standard errors are asked for to accept."""
        if self.mean + _REJECT_Z * self.error < 0:
            return "reject"
        if blocks >= _BLOCKS_TO_ACCEPT and self.pairs and self.mean > z * self.error:
            return "accept"
        return "open"


def compare(challenger: Scores, incumbent: Scores, tasks: Iterable[int]) -> Comparison:
    """Compare two on some tasks; those without two scores are left out for both."""
    differences = _differences(challenger, incumbent, tasks)
    if not differences:
        return Comparison(0, 0.0, _LEAST_ERROR)
    spread = stdev(differences) if len(differences) > 1 else 0.0
    return Comparison(len(differences), fmean(differences), max(spread / sqrt(len(differences)), _LEAST_ERROR))


def cannot_win(challenger: Scores, incumbent: Scores, done: Iterable[int], rest: Sequence[int], perfect: float) -> bool:
    """Whether the challenger does not get ahead even if it is perfect on all that is left.

    Unknown, and so not said, where the incumbent has no score on some of it.
    """
    left = [incumbent.get(task) for task in rest]
    known = [score for score in left if score is not None]
    if len(known) < len(left):
        return False
    lead = sum(_differences(challenger, incumbent, done))
    return lead + sum(max(perfect - score, 0.0) for score in known) <= 0


def z_at(z: tuple[float, float], spent: int, planned: int) -> float:
    """The standard errors asked for at this point of a run: from the first to the second, evenly by rollouts."""
    return z[0] + (z[1] - z[0]) * min(1.0, spent / max(planned, 1))


def tasks_to_share(finalists: Sequence[Scores], tasks: Iterable[int], rollouts: int) -> list[int]:
    """The most tasks on which so many rollouts can complete all finalists: those that lack the fewest come first."""
    shared: list[int] = []
    for missing, task in sorted((sum(task not in scores for scores in finalists), task) for task in tasks):
        rollouts -= missing
        if rollouts < 0:
            break
        shared.append(task)
    return shared


def scored_by_all(finalists: Sequence[Scores], tasks: Iterable[int]) -> list[int]:
    """The tasks that every finalist has a score on."""
    return [task for task in tasks if all(scores.get(task) is not None for scores in finalists)]


def mean_on(scores: Scores, tasks: Iterable[int]) -> float | None:
    """The mean score on those of the tasks that have one. None: none of them has."""
    known = [score for task in tasks if (score := scores.get(task)) is not None]
    return fmean(known) if known else None


def frontier(scores: Sequence[Scores], tasks: Iterable[int]) -> list[int]:
    """On how many of the tasks each is the best so far; of equals, each is."""
    wins = [0] * len(scores)
    for task in tasks:
        known = [(place, score) for place, each in enumerate(scores) if (score := each.get(task)) is not None]
        best = max((score for _, score in known), default=None)
        for place, score in known:
            wins[place] += score == best
    return wins


def _differences(challenger: Scores, incumbent: Scores, tasks: Iterable[int]) -> list[float]:
    pairs = ((challenger.get(task), incumbent.get(task)) for task in tasks)
    return [mine - theirs for mine, theirs in pairs if mine is not None and theirs is not None]
