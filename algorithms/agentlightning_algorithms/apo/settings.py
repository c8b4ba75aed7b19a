"""What one can choose about the search, and what the choice costs. Knows no store and no model."""

from collections.abc import Sequence
from dataclasses import dataclass

from agentlightning.algorithm import Estimate


@dataclass(frozen=True)
class Settings:
    """The parameters of `APO`, checked; their meaning is written there."""

    gradient_model: str
    apply_edit_model: str
    diversity_temperature: float
    rollout_batch_timeout: float
    gradient_prompt_files: Sequence[str] | None
    apply_edit_prompt_files: Sequence[str] | None
    seed: int
    gradient_batch_size: int = 4
    val_batch_size: int = 16
    beam_width: int = 4
    branch_factor: int = 4
    beam_rounds: int = 3
    run_initial_validation: bool = True

    def __post_init__(self) -> None:
        check_counts(self, "gradient_batch_size", "val_batch_size", "beam_width", "branch_factor", "beam_rounds")
        check_limits(self.rollout_batch_timeout, self.diversity_temperature)

    @property
    def branches(self) -> int:
        """New prompts per round."""
        return self.beam_width * self.branch_factor

    def estimate(self, train_size: int, val_size: int) -> Estimate:
        """The cost when no branch is dropped and no edit repaired."""
        return self._cost(self.beam_rounds, train_size, val_size)

    def cheapest(self, train_size: int, val_size: int) -> Estimate:
        """The cost of one round: what ends before that has found nothing."""
        return self._cost(1, train_size, val_size)

    def _cost(self, rounds: int, train_size: int, val_size: int) -> Estimate:
        training = rounds * self.branches * min(self.gradient_batch_size, train_size)
        candidates = 1 + self.branches + (rounds - 1) * (self.beam_width + self.branches)
        validations = rounds + self.run_initial_validation
        return Estimate(
            rollouts=training + candidates * min(self.val_batch_size, val_size) + validations * val_size,
            optimizer_calls=2 * rounds * self.branches,
        )


def check_counts(settings: object, *names: str) -> None:
    """Refuse counts that are none.

    Raises:
        ValueError: One of them is no whole number of at least 1.
    """
    for name in names:
        value = getattr(settings, name)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")


def check_limits(rollout_batch_timeout: float, diversity_temperature: float) -> None:
    """Refuse a time or a temperature that cannot be.

    Raises:
        ValueError: It is out of range.
    """
    if not rollout_batch_timeout > 0:
        raise ValueError(f"rollout_batch_timeout must be more than 0 seconds, not {rollout_batch_timeout!r}")
    if not diversity_temperature >= 0:
        raise ValueError(f"diversity_temperature must not be negative: {diversity_temperature!r}")
