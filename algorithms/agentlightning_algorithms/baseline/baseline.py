"""Runs the agent on every task and tunes nothing. Knows nothing of what the tasks and resources are."""

import logging
from collections import Counter
from statistics import fmean
from typing import Any

from agentlightning import (
    Algorithm,
    AlgorithmError,
    AttemptedRollout,
    Dataset,
    ResourcesUpdate,
    Rollout,
    RolloutMode,
)
from agentlightning.algorithm import Estimate, Evaluation, evaluate
from agentlightning.types import tasks_of

_log = logging.getLogger("agentlightning.algorithm.baseline")


class Baseline(Algorithm):
    """Has every task done with the initial resources and logs what became of it.

    Args:
        n_epochs: How many times to go through the datasets.
        max_queue_length: How many tasks to enqueue at once; the next follow when these are done. None: all.

    Raises:
        ValueError: When one of them is less than 1.

    Example:
        >>> import agentlightning as agl
        >>> algorithm = agl.Baseline(n_epochs=2)
        >>> algorithm.estimate(train_size=10, val_size=5).rollouts
        30
        >>> trainer = agl.Trainer(algorithm=algorithm, initial_resources={"prompt_template": "{question}"})
    """

    def __init__(self, *, n_epochs: int = 1, max_queue_length: int | None = None) -> None:
        for name, value in (("n_epochs", n_epochs), ("max_queue_length", max_queue_length)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value!r}")
        self._n_epochs = n_epochs
        self._max_queue_length = max_queue_length
        self._evaluations: dict[RolloutMode, list[Evaluation]] = {}
        self._done = 0

    def estimate(self, train_size: int, val_size: int) -> Estimate:
        """One rollout per task and epoch."""
        return Estimate(rollouts=self._n_epochs * (train_size + val_size))

    async def run(self, train_dataset: Dataset[Any] | None = None, val_dataset: Dataset[Any] | None = None) -> None:
        """Go through the train tasks and then the validation tasks, once per epoch.

        Raises:
            AlgorithmError: When there are no tasks.
        """
        datasets: dict[RolloutMode, list[Any]] = {"train": tasks_of(train_dataset), "val": tasks_of(val_dataset)}
        if not any(datasets.values()):
            raise AlgorithmError("there are no tasks: give train_dataset or val_dataset to Trainer.fit()")
        self._evaluations, self._done = {mode: [] for mode in datasets}, 0
        initial = self.get_initial_resources()
        resources = await self.get_store().add_resources(initial) if initial else None
        expected = self.estimate(*map(len, datasets.values())).rollouts
        for epoch in range(1, self._n_epochs + 1):
            _log.info("Proceeding epoch %d/%d.", epoch, self._n_epochs)
            for mode, tasks in datasets.items():
                await self._go_through(tasks, resources, mode, expected)
        _log.info("Finished %d rollouts: %s", self._done, self.summary())

    def summary(self) -> dict[str, Any]:
        """For each dataset with tasks, how many rollouts ended in which status and the mean score, if any has one."""
        return {
            mode: {
                "statuses": dict(Counter(evaluation.rollout.status for evaluation in evaluations)),
                "mean_reward": _mean(evaluations),
            }
            for mode, evaluations in self._evaluations.items()
            if evaluations
        }

    async def _go_through(
        self, tasks: list[Any], resources: ResourcesUpdate | None, mode: RolloutMode, expected: int
    ) -> None:
        def report(rollout: Rollout) -> None:
            self._done += 1
            self.notify(mode, self._done, expected)
            _log_end(rollout)

        portion = self._max_queue_length or max(len(tasks), 1)
        for start in range(0, len(tasks), portion):
            self._evaluations[mode] += await evaluate(
                self.get_store(), resources, tasks[start : start + portion], mode=mode, on_done=report
            )


def _mean(evaluations: list[Evaluation]) -> float | None:
    scores = [evaluation.score for evaluation in evaluations if evaluation.score is not None]
    return fmean(scores) if scores else None


def _log_end(rollout: Rollout) -> None:
    seconds = (rollout.end_time or rollout.start_time) - rollout.start_time
    attempt = rollout.attempt if isinstance(rollout, AttemptedRollout) else None
    _log.info(
        "[Rollout %s] Finished with status %s in %.2f seconds. Reward: %s. %s",
        rollout.rollout_id,
        rollout.status,
        seconds,
        attempt.final_reward if attempt else None,
        attempt.failure if attempt and attempt.failure else "",
    )
