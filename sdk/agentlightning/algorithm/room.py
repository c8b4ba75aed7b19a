"""What a run may still spend, and what stops it, as an algorithm meets them. Knows no price and keeps no count."""

from dataclasses import dataclass

from agentlightning.errors import AlgorithmError


@dataclass(frozen=True)
class Room:
    """What a run may still spend at the point that its algorithm has come to.

    Attributes:
        rollouts: Rollouts that are still free. None: no limit.
        optimizer_calls: Calls of the algorithm's own models that are still free. None: no limit.
        planned: The rollouts that the run was given when it began, which a larger budget on resuming does not change:
            the scale of all that depends on how far a run has come. None: it began without a limit.
        reached: The limit, in words, after which nothing new is admitted, once it is reached. None: none is.

    Example:
        >>> Room(rollouts=20, planned=100).allows(rollouts=24)
        False
        >>> Room(rollouts=20, planned=100).allows(rollouts=4, optimizer_calls=2)
        True
    """

    rollouts: int | None = None
    optimizer_calls: int | None = None
    planned: int | None = None
    reached: str | None = None

    def allows(self, *, rollouts: int = 0, optimizer_calls: int = 0) -> bool:
        """Whether so much may still be spent."""
        return (
            self.reached is None
            and (self.rollouts is None or rollouts <= self.rollouts)
            and (self.optimizer_calls is None or optimizer_calls <= self.optimizer_calls)
        )


class BudgetSpent(AlgorithmError):
    """The budget does not pay for what was asked, and nothing of it was done; a larger budget can resume the run.

    Attributes:
        limit: What was reached, in words: `the budget of 200 rollouts`.

    Example:
        >>> str(BudgetSpent("the budget of 200 rollouts"))
        'stopped by the budget of 200 rollouts; a larger one can resume the run'
    """

    def __init__(self, limit: str) -> None:
        super().__init__(f"stopped by {limit}; a larger one can resume the run")
        self.limit = limit


class ModelError(AlgorithmError):
    """A model that the algorithm asks gave no answer, however often it was asked.

    Example:
        >>> raise ModelError("gpt-5-mini did not answer: the key is not valid")
        Traceback (most recent call last):
        ...
        agentlightning.algorithm.room.ModelError: gpt-5-mini did not answer: the key is not valid
    """
