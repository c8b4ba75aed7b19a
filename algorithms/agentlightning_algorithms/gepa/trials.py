"""Has candidates tried on tasks over the store, within a limit of rollouts. Knows nothing of how they are found."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentlightning import AlgorithmError, LightningStore, NamedResources, Rollout, RolloutMode
from agentlightning.algorithm import Evaluation, evaluate, mean_reward

from agentlightning_algorithms.gepa.record import Candidate

_log = logging.getLogger("agentlightning.algorithm.gepa")

_TRIES = 3
_KINDS = {"agent": "agent", "timeout": "timeout"}


class BudgetSpent(Exception):
    """What is to be tried next takes more rollouts than are left."""


@dataclass(frozen=True)
class Task:
    """A task and where it stands.

    Attributes:
        split: The dataset.
        place: Its index there.
        input: The task itself.
    """

    split: RolloutMode
    place: int
    input: Any


@dataclass
class Trials:
    """Where rollouts are spent.

    Attributes:
        store: Where rollouts are done.
        initial: The resources to start from; what is not tuned is carried along as it is.
        max_rollouts: How many may be spent.
        timeout_seconds: How long a batch of them may take.
        on_done: Told of each rollout as it ends.
        spent: How many have been enqueued, those that were repeated among them.
        failures: How many failed, by what failed: `agent`, `timeout`, `infrastructure`; `invalid`: no reward.
    """

    store: LightningStore
    initial: NamedResources
    max_rollouts: int
    timeout_seconds: float
    on_done: Callable[[Rollout], None]
    spent: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def left(self) -> int:
        """How many rollouts may still be spent."""
        return self.max_rollouts - self.spent

    async def run(self, step: str, items: Sequence[tuple[Candidate, Sequence[Task]]]) -> list[list[Evaluation]]:
        """Try several candidates at once, each on its tasks.

        Raises:
            BudgetSpent: When there are not enough rollouts left; none is spent then.
            AlgorithmError: When rollouts were lost again and again, or give no rewards.
        """
        self._reserve(sum(len(tasks) for _, tasks in items))
        for candidate, _ in items:
            await self._write(candidate)
        try:
            async with asyncio.TaskGroup() as group:
                trials = [group.create_task(self._try(step, candidate, tasks)) for candidate, tasks in items]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [trial.result() for trial in trials]

    async def _try(self, step: str, candidate: Candidate, tasks: Sequence[Task]) -> list[Evaluation]:
        """What each task comes to; what the infrastructure lost is repeated."""
        ended = dict(enumerate(await self._evaluate(step, candidate, tasks)))
        for _ in range(1, _TRIES):
            if not (lost := [place for place, evaluation in ended.items() if _is_lost(evaluation)]):
                break
            _log.warning("%d of %d rollouts of %s were lost: once more", len(lost), len(tasks), candidate.version)
            self._reserve(len(lost))
            again = await self._evaluate(step, candidate, [tasks[place] for place in lost])
            ended.update(zip(lost, again, strict=True))
        return _checked([ended[place] for place in range(len(tasks))])

    async def _evaluate(self, step: str, candidate: Candidate, tasks: Sequence[Task]) -> list[Evaluation]:
        """The one place where tasks go to the store, rollouts reserved beforehand."""
        evaluations = await evaluate(
            self.store,
            candidate.resources,
            [task.input for task in tasks],
            mode=tasks[0].split,
            on_done=self.on_done,
            timeout_seconds=self.timeout_seconds,
            labels={"step": step, "prompt": candidate.version},
        )
        self.failures.update(kind for evaluation in evaluations if (kind := _kind(evaluation)))
        return evaluations

    async def _write(self, candidate: Candidate) -> None:
        if candidate.resources is None:
            parent = candidate.parents[0].resources if candidate.parents else None
            candidate.resources = await self.store.add_resources(self.resources(candidate), parent=parent)

    def resources(self, candidate: Candidate) -> NamedResources:
        """The resources with the texts of a candidate."""
        texts = candidate.texts
        return {
            name: resource.model_copy(update={"template": texts[name]}) if name in texts else resource
            for name, resource in self.initial.items()
        }

    def _reserve(self, count: int) -> None:
        if count > self.left:
            raise BudgetSpent(f"{count} rollouts are needed and {self.left} of {self.max_rollouts} are left")
        self.spent += count


def _kind(evaluation: Evaluation) -> str | None:
    if evaluation.failure is None:
        return "invalid" if evaluation.reward is None else None
    return _KINDS.get(evaluation.failure.kind, "infrastructure")


def _is_lost(evaluation: Evaluation) -> bool:
    return evaluation.failure is not None and evaluation.score is None


def _checked(evaluations: list[Evaluation]) -> list[Evaluation]:
    if lost := [evaluation for evaluation in evaluations if _is_lost(evaluation)]:
        raise AlgorithmError(
            f"{len(lost)} of {len(evaluations)} rollouts were lost {_TRIES} times in a row, which says nothing about "
            f"the prompt; the last one by {lost[-1].failure}. Mend that and start the run again"
        )
    mean_reward(evaluations)  # Says what to do when none has a reward.
    return evaluations
