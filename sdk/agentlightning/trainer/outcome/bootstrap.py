"""How sure a mean of paired differences is, by the bootstrap. Pure: the same pairs give the same interval."""

from collections.abc import Sequence
from random import Random
from statistics import fmean
from typing import Final

_RESAMPLES: Final = 10_000
_LEAST_RESAMPLES: Final = 1_000
_MOST_DRAWS: Final = 5_000_000
"""Less than a second; beyond 500 pairs there are fewer resamples, and the interval hardly needs them."""


def interval(differences: Sequence[float], *, level: float = 0.95, seed: int = 0) -> tuple[float, float] | None:
    """Between which numbers the mean of the differences lies, were other pairs drawn like these.

    Args:
        differences: After less before, for each pair.
        level: How likely it is meant to lie there.
        seed: Where the resamples come from.

    Returns:
        The percentiles of the means of resamples. None: fewer than two pairs say nothing of chance.

    Example:
        >>> from agentlightning.trainer.outcome.bootstrap import interval
        >>> interval([0.5] * 20)
        (0.5, 0.5)
        >>> interval([0, 1] * 50)
        (0.4, 0.6)
    """
    size = len(differences)
    if size < 2:
        return None
    draw = Random(seed).choices
    count = max(_LEAST_RESAMPLES, min(_RESAMPLES, _MOST_DRAWS // size))
    means = sorted(fmean(draw(differences, k=size)) for _ in range(count))
    outside = round(count * (1 - level) / 2)
    return means[outside], means[-1 - outside]
