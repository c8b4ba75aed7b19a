"""What one can choose about the race, and what the choice costs. Knows no store and no model."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

from agentlightning.algorithm import Estimate

from agentlightning_algorithms.apo.settings import check_counts, check_limits

_DEFAULT_PASSES = 4
_DEFAULT_MOST = 1000


@dataclass(frozen=True)
class RaceSettings:
    """The parameters of `APO(selection="race")`, checked; their meaning is written there."""

    gradient_model: str = "gpt-5-mini"
    apply_edit_model: str = "gpt-4.1-mini"
    diversity_temperature: float = 1.0
    rollout_batch_timeout: float = 3600.0
    gradient_prompt_files: Sequence[str] = ()
    apply_edit_prompt_files: Sequence[str] = ()
    seed: int = 0
    minibatch_size: int = 4
    block_size: int = 6
    blocks: tuple[int, int] = (3, 6)
    proposals: int = 2
    z: tuple[float, float] = (1.0, 2.0)
    finals_share: float = 0.15
    perfect_score: float = 1.0
    components: Literal["round_robin", "all"] | Sequence[str] = "round_robin"
    max_prompt_chars: int = 20_000
    leaks: Literal["warn", "drop"] = "warn"

    def __post_init__(self) -> None:
        check_counts(self, "minibatch_size", "block_size", "proposals", "max_prompt_chars")
        check_limits(self.rollout_batch_timeout, self.diversity_temperature)
        if len(self.z) != 2 or not 0 <= self.z[0] <= self.z[1]:
            raise ValueError(f"z must be two numbers, the second not less than the first and none below 0: {self.z!r}")
        if len(self.blocks) != 2 or not 2 <= self.blocks[0] <= self.blocks[1]:
            raise ValueError(
                f"blocks must be two whole numbers of at least 2, the second not the smaller one: {self.blocks!r}"
            )
        if not 0 <= self.finals_share < 1:
            raise ValueError(f"finals_share must be at least 0 and less than 1, not {self.finals_share!r}")
        if isinstance(self.components, str) and self.components not in ("round_robin", "all"):
            raise ValueError(
                f"components must be 'round_robin', 'all' or a list of names of prompt templates, "
                f"not {self.components!r}; to tune that one alone, write [{self.components!r}]"
            )
        if self.leaks not in ("warn", "drop"):
            raise ValueError(f"leaks must be 'warn' or 'drop', not {self.leaks!r}")

    def reserve(self, rollouts: int) -> int:
        """How many of so many rollouts are held back for the finals."""
        return ceil(self.finals_share * rollouts)

    def planned(self, train_size: int, val_size: int) -> int:
        """The rollouts of a run without a budget: four times all tasks, at most 1000, and never less than the least."""
        most = min(_DEFAULT_PASSES * (train_size + val_size), _DEFAULT_MOST)
        return max(most, self.cheapest(train_size, val_size).rollouts)

    def estimate(self, train_size: int, val_size: int) -> Estimate:
        """The most that a run without a budget costs in rollouts, and about what it costs in calls."""
        rollouts = self.planned(train_size, val_size)
        a_round = self._minibatch(train_size) * (1 + self.proposals) + self._race(val_size) // 2 * self.proposals
        rounds = max((rollouts - self.reserve(rollouts)) // a_round, 1)
        return Estimate(rollouts=rollouts, optimizer_calls=2 * self.proposals * rounds)

    def cheapest(self, train_size: int, val_size: int) -> Estimate:
        """The least that can improve a prompt: a minibatch, one gate, two blocks of a pair, and the finals."""
        searching = self.cheapest_search(train_size, val_size)
        total = searching
        while total - self.reserve(total) < searching:
            total += 1
        return Estimate(rollouts=total, optimizer_calls=2)

    def cheapest_search(self, train_size: int, val_size: int) -> int:
        """The same without the finals."""
        return 2 * self._minibatch(train_size) + self._race(val_size)

    def _minibatch(self, train_size: int) -> int:
        return min(self.minibatch_size, train_size)

    def _race(self, val_size: int) -> int:
        """Two blocks of one pair: fewer accept nobody."""
        return 2 * min(2 * self.block_size, val_size)
