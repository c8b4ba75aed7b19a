"""The end of a race: the last incumbents and the seed on the same validation tasks. Makes no prompt."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from agentlightning_algorithms.apo.contender import Contender
from agentlightning_algorithms.apo.paired import mean_on, scored_by_all, tasks_to_share
from agentlightning_algorithms.apo.trials import Trials
from agentlightning_algorithms.lab import BudgetSpent


@dataclass
class Finals:
    """One comparison of finalists.

    Attributes:
        trials: Where they are tried.
        order: The validation tasks.
        least: On how many tasks in common there must be scores for the first of the finalists to be beaten.
        shared: The tasks that decided. Empty: there were too few.
        stopped_by: Why not all that was held back could be spent. None: it could.
    """

    trials: Trials
    order: Sequence[int]
    least: int
    shared: list[int] = field(default_factory=list)
    stopped_by: str | None = None

    async def winner(self, finalists: Sequence[Contender]) -> Contender:
        """The best of them; of equals the shortest, then the first."""
        if len(finalists) == 1:
            return finalists[0]
        await self._complete(finalists)
        shared = scored_by_all([each.scores for each in finalists], self.order)
        if len(shared) < self.least:
            return finalists[0]
        self.shared = shared
        return min(finalists, key=lambda each: (-(mean_on(each.scores, shared) or 0.0), each.length))

    async def _complete(self, finalists: Sequence[Contender]) -> None:
        """Try them on what they lack, as far as the rollouts go."""
        left = replace(self.trials.left(), optimizer_calls=None)
        tasks = tasks_to_share([each.scores for each in finalists], self.order, left.rollouts or 0)
        if left.reached or len(tasks) < self.least:
            return
        try:
            await self.trials.on_val(finalists, tasks, left)
        except BudgetSpent as spent:
            self.stopped_by = spent.limit
