"""What the runs come to: a table for each cell and a plot, paired by world. Runs nothing."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean, median

from apo.referee import Result

BUDGETS = (226, 400, 700, 1200)
SHARE = 0.8
"""Of the oracle's score: what counts as reached."""
RESAMPLES = 2000
HEADS = (
    "",
    *(f"score at {budget}" for budget in BUDGETS),
    "rollouts to 80 %",
    "reached",
    "against the peer",
    "calls",
    "optimism",
)


@dataclass(frozen=True)
class Runs:
    """One contestant in the worlds of one cell: for each world the runs that it made there, by budget."""

    name: str
    by_world: dict[int, dict[int, Result]]

    @classmethod
    def of(cls, name: str, results: Iterable[Result]) -> "Runs":
        """Put results in order."""
        by_world: dict[int, dict[int, Result]] = {}
        for result in results:
            by_world.setdefault(result.world, {})[result.budget] = result
        return cls(name, by_world)

    def scores(self, budget: int) -> list[float]:
        """In each world, what the prompt earns that would be returned after so many rollouts."""
        return [score_at(self._at(runs, budget), budget) for _, runs in sorted(self.by_world.items())]

    def reached(self) -> list[float]:
        """In each world, after how many rollouts it would return a prompt good enough; infinity: never."""
        return [reached_at(result) for result in self.longest()]

    def longest(self) -> list[Result]:
        """The run of each world with the largest budget."""
        return [runs[max(runs)] for _, runs in sorted(self.by_world.items())]

    def _at(self, runs: dict[int, Result], budget: int) -> Result:
        return runs[min(known for known in runs if known >= budget)]


def score_at(result: Result, rollouts: int) -> float:
    """What the prompt earns that would be returned after so many rollouts."""
    return [point.score for point in result.curve if point.rollouts <= rollouts][-1]


def reached_at(result: Result) -> float:
    """After how many rollouts the prompt is good enough; infinity: not within the budget."""
    enough = SHARE * result.oracle
    return next((p.rollouts for p in result.curve if p.score >= enough and p.rollouts <= result.budget), math.inf)


def optimism(result: Result) -> float | None:
    """By how much the optimizer overrates what it returns. None: it does not say what it believes."""
    last = result.curve[-1]
    return None if last.reported is None else last.reported - last.score


def interval(values: Sequence[float], statistic: Callable[[Sequence[float]], float] = fmean) -> tuple[float, float]:
    """Where 95 % of the bootstrap over worlds lie."""
    rng = Random(0)
    drawn = sorted(statistic(rng.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return drawn[int(0.025 * RESAMPLES)], drawn[int(0.975 * RESAMPLES)]


def table(cell: str, contestants: Sequence[Runs], peer: str) -> str:
    """One cell, as Markdown."""
    first = contestants[0].longest()
    seed, oracle = fmean(result.seed for result in first), fmean(result.oracle for result in first)
    head = f"**{cell}**: {len(first)} worlds; the seed prompt earns {seed:.3f}, the oracle {oracle:.3f}."
    lines = [head, "", _row(HEADS), _row(["---"] * len(HEADS))]
    theirs = next((runs for runs in contestants if runs.name == peer), None)
    return "\n".join([*lines, *(_row(_cells(runs, theirs)) for runs in contestants), ""])


def differences(contestants: Sequence[Runs], reference: str) -> str:
    """By how much each differs from a reference at equal rollouts, with intervals, as Markdown."""
    to = next((runs for runs in contestants if runs.name == reference), None)
    if to is None:
        return ""
    rows = [["difference from " + reference, *map(str, BUDGETS)], ["---"] * (len(BUDGETS) + 1)]
    for runs in contestants:
        if runs is not to:
            rows.append([runs.name, *(_difference(runs.scores(budget), to.scores(budget)) for budget in BUDGETS)])
    return "\n".join([*map(_row, rows), ""])


def _difference(mine: Sequence[float], theirs: Sequence[float]) -> str:
    values = [one - other for one, other in zip(mine, theirs, strict=True)]
    low, high = interval(values)
    return f"{fmean(values):+.3f} ({low:+.3f}..{high:+.3f})"


def _cells(runs: Runs, peer: Runs | None) -> list[str]:
    results, reached = runs.longest(), runs.reached()
    beliefs = [belief for result in results if (belief := optimism(result)) is not None]
    return [
        runs.name,
        *(f"{fmean(runs.scores(budget)):.3f}" for budget in BUDGETS),
        _count(median(reached)),
        f"{sum(map(math.isfinite, reached))} of {len(reached)}",
        _times_fewer(reached, peer.reached()) if peer is not None and peer is not runs else "",
        f"{fmean(sum(result.calls.values()) for result in results):.0f}",
        f"{fmean(beliefs):+.3f}" if beliefs else "",
    ]


def _times_fewer(mine: Sequence[float], theirs: Sequence[float]) -> str:
    """The middle of the ratios of the worlds where either reached the mark: infinite where the peer alone did not."""
    pairs = zip(mine, theirs, strict=True)
    ratios = [_ratio(other, one) for one, other in pairs if math.isfinite(min(one, other))]
    if not ratios:
        return ""
    low, high = interval(ratios, _middle)
    return f"{_times(_middle(ratios))} ({_times(low)}..{_times(high)})"


def _ratio(theirs: float, mine: float) -> float:
    if mine == theirs:  # Both may be 0: a seed prompt that is good enough.
        return 1.0
    return math.inf if mine == 0 else theirs / mine


def _middle(values: Sequence[float]) -> float:
    return sorted(values)[(len(values) - 1) // 2]


def _times(ratio: float) -> str:
    return "∞" if math.isinf(ratio) else f"{ratio:.1f}x"


def _count(value: float) -> str:
    return f"{value:.0f}" if math.isfinite(value) else f"over {BUDGETS[-1]}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
