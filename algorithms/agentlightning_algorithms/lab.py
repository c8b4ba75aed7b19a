"""What a search needs of the world: rollouts, traces, answers of models, and room to go on. Knows no store.

A search is a deterministic function of its settings, its data sets and the answers of its lab. Each answer is asked for
under a step, a name of the place in the search: the same step has the same answer, so a search that is run again from
its beginning goes the same way, at no cost, to where it was stopped.
"""

from collections.abc import Sequence
from random import Random
from typing import Any, Literal, Protocol

from agentlightning import NamedResources, ResourcesUpdate
from agentlightning.algorithm import BudgetSpent, Evaluation, ModelError, Room

Split = Literal["train", "val"]
"""Which data set a task is of."""


class Lab(Protocol):
    """Where prompts are tried and models asked. Of one step, each task is tried once and each message sent once."""

    async def evaluate(
        self, step: str, resources: ResourcesUpdate, tasks: Sequence[int], split: Split
    ) -> list[Evaluation]:
        """Have tasks done once with the resources.

        Args:
            step: Where the search is. Further tasks may be asked for under the same step, with the same resources.
            resources: What `add` returned.
            tasks: The tasks, as their places in the data set.
            split: The data set.

        Returns:
            One evaluation for each task, in the order of the tasks. What the infrastructure lost was tried again.

        Raises:
            BudgetSpent: When not all of them can be paid; then none was enqueued.
        """

    async def traces(self, evaluations: Sequence[Evaluation]) -> list[list[Any]]:
        """What was said and done in each, as JSON-able entries in their order; the judge's own calls are left out.

        An entry that is a mapping with an `error` in it is about something that failed.
        """

    async def ask(self, step: str, model: str, message: str) -> str:
        """The answer of the critic or the editor.

        Raises:
            ModelError: When there was none.
            BudgetSpent: When the call cannot be paid; then it was not made.
        """

    async def add(self, step: str, resources: NamedResources, parent: ResourcesUpdate | None) -> ResourcesUpdate:
        """Keep a candidate: all resources of a rollout, what is tuned and what is not. The same step gives the same."""

    def random(self, step: str) -> Random:
        """Randomness for this step alone: the same whenever, and however often, it is asked for."""

    def decide(self, step: str, kind: str, **numbers: Any) -> None:
        """Note a decision and what it was made on, for the report."""

    def room(self) -> Room:
        """What is left after all that the search has asked for up to here, whether it was paid now or before."""


__all__ = ["BudgetSpent", "Lab", "ModelError", "Room", "Split"]
