"""Trying contenders and asking models, counted: what was asked for, and what may still be. Decides nothing."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, TypeVar

from agentlightning.algorithm import Evaluation

from agentlightning_algorithms.apo.contender import Contender
from agentlightning_algorithms.apo.race_settings import RaceSettings
from agentlightning_algorithms.lab import BudgetSpent, Lab, Room, Split

T = TypeVar("T")


@dataclass
class Trials:
    """The rollouts and calls of one search.

    Attributes:
        lab: Where they are made.
        settings: What was chosen.
        default: The rollouts of the run when no budget says how many.
        notify: Told of the phase, the rollouts done and those expected.
        phase: What they are for, in a word.
        asked: How many rollouts were asked for and done.
        calls: How many times a model was asked.
        failures: How many rollouts failed, by kind.
        greatest: The greatest score so far.
    """

    lab: Lab
    settings: RaceSettings
    default: int
    notify: Callable[[str, int, int], None] = lambda *_: None
    phase: str = ""
    asked: int = 0
    calls: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    greatest: float = -inf

    def __post_init__(self) -> None:
        room = self.lab.room()
        self._total = self.default if room.rollouts is None else room.rollouts
        self.planned = self.default if room.planned is None else room.planned

    @property
    def perfect(self) -> float:
        """The score of a rollout with which nothing is wrong."""
        return max(self.settings.perfect_score, self.greatest)

    @property
    def limit(self) -> str:
        """What stops the search, in words."""
        room = self.lab.room()
        if room.reached:
            return room.reached
        if room.optimizer_calls is not None and room.optimizer_calls < 2:
            return f"the budget of {self.calls + room.optimizer_calls} optimizer calls"
        which = "the search's budget of" if room.rollouts is not None else "the default of"
        return f"{which} {self._total} rollouts"

    def left(self) -> Room:
        """What may still be spent, the share of the finals included."""
        room = self.lab.room()
        return room if room.rollouts is not None else replace(room, rollouts=max(self.default - self.asked, 0))

    def room(self) -> Room:
        """What the search may still spend; the share of the finals is held back."""
        left = self.left()
        assert left.rollouts is not None
        return replace(left, rollouts=max(left.rollouts - self.settings.reserve(self._total), 0))

    async def on_train(self, step: str, contender: Contender, tasks: Sequence[int]) -> list[Evaluation]:
        """Try a contender on training tasks."""
        return await self._evaluate(step, contender, tasks, "train")

    async def on_val(self, contenders: Sequence[Contender], tasks: Sequence[int], room: Room) -> None:
        """Try contenders on those of the validation tasks that they have not been tried on, all at once.

        Raises:
            BudgetSpent: When the room does not allow that; then none was tried.
        """
        missing = [[task for task in tasks if task not in contender.scores] for contender in contenders]
        if not room.allows(rollouts=sum(map(len, missing))):
            raise BudgetSpent(self.limit)
        await settle(self._on_val(*pair) for pair in zip(contenders, missing, strict=True) if pair[1])

    async def ask(self, step: str, model: str, message: str) -> str:
        """Ask a model."""
        self.calls += 1
        try:
            return await self.lab.ask(step, model, message)
        except BudgetSpent:
            self.calls -= 1
            raise

    async def _on_val(self, contender: Contender, tasks: Sequence[int]) -> None:
        contender.take(tasks, await self._evaluate(f"val/{contender.version}", contender, tasks, "val"))

    async def _evaluate(self, step: str, contender: Contender, tasks: Sequence[int], split: Split) -> list[Evaluation]:
        evaluations = await self.lab.evaluate(step, contender.resources, tasks, split)
        self.asked += len(tasks)
        self.failures.update(each.failure.kind for each in evaluations if each.failure)
        self.greatest = max([self.greatest, *(each.score for each in evaluations if each.score is not None)])
        self.notify(self.phase, self.asked, self._total)
        return evaluations


async def settle(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Do everything at once and to its end; then raise the first failure, in the order of the work, if there is one.

    What is in flight is paid for, so a failure beside it does not cancel it.
    """
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
