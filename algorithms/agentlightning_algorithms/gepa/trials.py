"""Has candidates tried on tasks, within a limit of rollouts. Knows nothing of how they are found."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from agentlightning import NamedResources
from agentlightning.algorithm import BudgetSpent, Evaluation, Journal, TooManyFailures, mean_reward

from agentlightning_algorithms.gepa.record import Candidate

_KINDS = {"agent": "agent", "timeout": "timeout"}


@dataclass(frozen=True)
class Task:
    """A task and where it stands.

    Attributes:
        split: The dataset.
        place: Its index there.
        input: The task itself.
    """

    split: Literal["train", "val"]
    place: int
    input: Any


@dataclass
class Trials:
    """Where rollouts are spent.

    Attributes:
        journal: Where rollouts are done, each once under its step.
        initial: The resources to start from; what is not tuned is carried along as it is.
        max_rollouts: How many may be spent.
        spent: How many have been asked for.
        failures: How many failed, by what failed: `agent`, `timeout`, `infrastructure`; `invalid`: no reward.
    """

    journal: Journal
    initial: NamedResources
    max_rollouts: int
    spent: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def left(self) -> int:
        """How many rollouts may still be spent."""
        own, room = self.max_rollouts - self.spent, self.journal.room()
        return 0 if room.reached else own if room.rollouts is None else min(own, room.rollouts)

    @property
    def limit(self) -> str:
        """What ends the search when too few are left, in words."""
        room = self.journal.room()
        if room.rollouts is None or room.rollouts > self.max_rollouts - self.spent:
            return room.reached or f"the budget of {self.max_rollouts} rollouts"
        return room.reached or f"the search's budget of {self.spent + room.rollouts} rollouts"

    async def run(self, step: str, items: Sequence[tuple[Candidate, Sequence[Task]]]) -> list[list[Evaluation]]:
        """Try several candidates at once, each on its tasks.

        Raises:
            BudgetSpent: When there are not enough rollouts left; none is spent then.
            TooManyFailures: When rollouts were lost again and again, or the run's budget says so.
            AlgorithmError: When rollouts give no rewards.
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
        """What each task comes to; the same again for what was tried under the step before."""
        places, split = [task.place for task in tasks], tasks[0].split
        labels = {"prompt": candidate.version}
        evaluations = await self.journal.evaluate(
            f"{step}/{candidate.version}", candidate.resources, places, split, labels=labels
        )
        self.failures.update(kind for evaluation in evaluations if (kind := _kind(evaluation)))
        return _checked(evaluations)

    async def _write(self, candidate: Candidate) -> None:
        if candidate.resources is None:
            parent = candidate.parents[0].resources if candidate.parents else None
            resources = self.resources(candidate)
            candidate.resources = await self.journal.add(f"add/{candidate.version}", resources, parent)

    def resources(self, candidate: Candidate) -> NamedResources:
        """The resources with the texts of a candidate."""
        texts = candidate.texts
        return {
            name: resource.model_copy(update={"template": texts[name]}) if name in texts else resource
            for name, resource in self.initial.items()
        }

    def _reserve(self, count: int) -> None:
        if count > self.left:
            raise BudgetSpent(self.limit)
        self.spent += count


def _kind(evaluation: Evaluation) -> str | None:
    if evaluation.failure is None:
        return "invalid" if evaluation.reward is None else None
    return _KINDS.get(evaluation.failure.kind, "infrastructure")


def _checked(evaluations: list[Evaluation]) -> list[Evaluation]:
    lost = [each for each in evaluations if each.failure is not None and each.score is None]
    if lost:
        raise TooManyFailures(
            f"{len(lost)} of {len(evaluations)} rollouts were lost each time they were delivered, which says nothing "
            f"about the prompt; the last one by {lost[-1].failure}. Mend that and resume the run"
        )
    mean_reward(evaluations)  # Says what to do when none has a reward.
    return evaluations
