"""What a run may spend, as its user says it. Counts nothing and stops nothing."""

import math
from dataclasses import dataclass
from typing import Final

LEAST_ENDED: Final = 10
"""Rollouts that have to end before their failures can stop a run."""


@dataclass(frozen=True)
class Budget:
    """The most that a run may spend. None: no limit.

    Rollouts and calls are set aside before they are made, so these limits are never exceeded. Of the others nothing new
    is begun once they are reached; what is under way then ends, and is paid for.

    Attributes:
        rollouts: Rollouts of the agent, those of the check before and of the test split at the end counted in.
        optimizer_calls: Calls of the algorithm's own models.
        tokens: Tokens of all models, those sent and those that come back.
        money: What these cost at the trainer's `prices`.
        seconds: Seconds that one call of `fit` may go on for.
        max_failure_rate: The share of the rollouts that may fail, once ten have ended; with more, the run stops and can
            be resumed. 1: any.

    Raises:
        ValueError: When one of them cannot be what it is.

    Example:
        >>> import agentlightning as agl
        >>> agl.Budget(rollouts=200, money=5.0).rollouts
        200
        >>> agl.Budget(tokens=-1)
        Traceback (most recent call last):
        ValueError: tokens is -1, expected a whole number of at least 1, or None for no limit
    """

    rollouts: int | None = None
    optimizer_calls: int | None = None
    tokens: int | None = None
    money: float | None = None
    seconds: float | None = None
    max_failure_rate: float = 0.5

    def __post_init__(self) -> None:
        for name, least in (("rollouts", 1), ("optimizer_calls", 0), ("tokens", 1)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
                raise ValueError(
                    f"{name} is {value!r}, expected a whole number of at least {least}, or None for no limit"
                )
        for name in ("money", "seconds"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value!r}, expected a number of more than 0, or None for no limit")
        if not 0 <= self.max_failure_rate <= 1:
            raise ValueError(f"max_failure_rate is {self.max_failure_rate!r}, expected a number from 0 to 1")
