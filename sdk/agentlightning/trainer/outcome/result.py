"""What `fit` came to, as a program and a person read it. Knows neither the store nor how it was found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentlightning.types import NamedResources

if TYPE_CHECKING:
    from agentlightning.adapter import Usage


@dataclass(frozen=True)
class TrainResult:
    """What `fit` came to; printed, or as the last line of a notebook's cell, it tells it in a few lines.

    Attributes:
        run_id: The run's record in the store: `agl runs show RUN`.
        best_resources: The best resources found. None: the algorithm looks for none.
        prompt_path: The file that the best prompt was saved to.
        baseline_score: The mean reward of the initial resources on the validation set, if the algorithm says.
        best_score: That of the best resources.
        test_baseline_score: The mean reward of the initial resources on the test set, which nothing was chosen by.
        test_score: That of the best resources.
        rollouts: How many rollouts the algorithm spent.
        test_rollouts: How many the test set took.
        seconds: How long it all took.
        summary: All that the algorithm says of the run.
        statuses: How many rollouts of the run ended as `succeeded`, `failed` and `cancelled`; the one that was shown
            beforehand is not counted.
        retried: How many of them took more than one attempt.
        tokens: What the calls of models came to, by model: those of the agents, and those of the algorithm as far as it
            tells. None: that could not be read.
        cost: What they cost at the trainer's `prices`. None: unknown.

    Example:
        >>> result = TrainResult(
        ...     run_id="run-2f6c1d09ab34", best_resources=None, prompt_path=None, baseline_score=0.5, best_score=0.75,
        ...     test_baseline_score=None, test_score=None, rollouts=48, test_rollouts=0, seconds=12.3, summary={},
        ...     statuses={"succeeded": 46, "failed": 2, "cancelled": 0}, retried=1,
        ... )
        >>> print(result)
        run run-2f6c1d09ab34: 48 rollouts (46 succeeded, 2 failed; 1 retried) in 12 s
        validation: 0.50 with the first resources, 0.75 with the best
        see it again: agl runs show run-2f6c1d09ab34
        >>> result.statuses["failed"]
        2
    """

    run_id: str
    best_resources: NamedResources | None
    prompt_path: Path | None
    baseline_score: float | None
    best_score: float | None
    test_baseline_score: float | None
    test_score: float | None
    rollouts: int
    test_rollouts: int
    seconds: float
    summary: dict[str, Any]
    statuses: Mapping[str, int] = field(default_factory=dict)
    retried: int = 0
    tokens: "Mapping[str, Usage] | None" = None
    cost: float | None = None

    def __str__(self) -> str:
        test = f" + {self.test_rollouts} on the test split" if self.test_rollouts else ""
        lines = [f"run {self.run_id}: {self.rollouts} rollouts{test}{self._ends()} in {self.seconds:.0f} s"]
        lines += self._means()
        lines += _scores("validation", self.baseline_score, self.best_score)
        lines += _scores("test", self.test_baseline_score, self.test_score)
        if self.prompt_path is not None:
            lines.append(f"best prompt: agl.PromptTemplate.load({str(self.prompt_path)!r})")
        return "\n".join([*lines, f"see it again: agl runs show {self.run_id}"])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What a notebook shows."""
        printer.text(str(self))

    def _ends(self) -> str:
        ends = ", ".join(f"{count} {status}" for status, count in self.statuses.items() if count)
        retried = f"; {self.retried} retried" if self.retried else ""
        return f" ({ends}{retried})" if ends else ""

    def _means(self) -> list[str]:
        """The mean rewards of an algorithm that only goes through the tasks."""
        means = {mode: self.summary.get(mode, {}).get("mean_reward") for mode in ("train", "val")}
        return [f"{mode}: mean reward {mean:.2f}" for mode, mean in means.items() if mean is not None]


def _scores(split: str, first: float | None, best: float | None) -> list[str]:
    if best is None:
        return []
    compared = "" if first is None else f"{first:.2f} with the first resources, "
    return [f"{split}: {compared}{best:.2f} with the best"]
