"""A lab over a simulated world, in process: what our own searches run in where a store would take too long."""

from collections.abc import Sequence
from random import Random
from typing import Any

from agentlightning import NamedResources, PromptTemplate, ResourcesUpdate
from agentlightning.algorithm import Evaluation
from agentlightning.types import Failure, Rollout
from agentlightning_algorithms.lab import BudgetSpent, Room, Split
from apo.referee import Referee
from apo.worlds import Outcome, Task

NAME = "prompt_template"
"""The resource that is tuned."""


class SimulatedLab:
    """Tries prompts in a world, at once; asks the world's models.

    Args:
        referee: Of the world, without a limit of its own.
        rollouts: The budget. None: no limit.
        optimizer_calls: The budget of calls. None: no limit.
        seed: Of the searches' randomness.

    Attributes:
        decisions: What the search said that it decided.
        calls: How often the models were asked, with or without success.
    """

    def __init__(
        self, referee: Referee, rollouts: int | None = None, optimizer_calls: int | None = None, seed: int = 0
    ) -> None:
        self._referee = referee
        self._planned, self._planned_calls, self._seed = rollouts, optimizer_calls, seed
        self._evaluations: dict[tuple[str, Split, int], Evaluation] = {}
        self._answers: dict[tuple[str, str, str], str] = {}
        self._resources: dict[str, ResourcesUpdate] = {}
        self._outcomes: dict[str, tuple[str, Task, Outcome]] = {}
        self.decisions: list[dict[str, Any]] = []
        self.calls = 0

    async def evaluate(
        self, step: str, resources: ResourcesUpdate, tasks: Sequence[int], split: Split
    ) -> list[Evaluation]:
        """Try the prompt on tasks; those that the step has tried already have the same outcome."""
        new = [task for task in dict.fromkeys(tasks) if (step, split, task) not in self._evaluations]
        if not self.room().allows(rollouts=len(new)):
            raise BudgetSpent(f"the budget of {self._planned} rollouts")
        for task in new:
            self._evaluations[step, split, task] = self._try(resources, task, split)
        return [self._evaluations[step, split, task] for task in tasks]

    async def traces(self, evaluations: Sequence[Evaluation]) -> list[list[Any]]:
        """What was asked and answered in each, and what the metric said of it."""
        return [_messages(*self._outcomes[evaluation.rollout.rollout_id]) for evaluation in evaluations]

    async def ask(self, step: str, model: str, message: str) -> str:
        """What the critic or the editor answers."""
        if (step, model, message) not in self._answers:
            if not self.room().allows(optimizer_calls=1):
                raise BudgetSpent(f"the budget of {self._planned_calls} optimizer calls")
            self.calls += 1
            self._answers[step, model, message] = self._referee.models.ask(model, message)
        return self._answers[step, model, message]

    async def add(self, step: str, resources: NamedResources, parent: ResourcesUpdate | None) -> ResourcesUpdate:
        """Keep a candidate."""
        if step not in self._resources:
            self._resources[step] = ResourcesUpdate(
                resources_id=f"rs-{len(self._resources):012x}",
                version=1,
                create_time=0.0,
                update_time=0.0,
                resources=resources,
                parent_resources_id=parent.resources_id if parent else None,
                parent_version=parent.version if parent else None,
            )
        return self._resources[step]

    def random(self, step: str) -> Random:
        """Randomness of this step of this run in this world."""
        return self._referee.world.chance("search", self._seed, step)

    def decide(self, step: str, kind: str, **numbers: Any) -> None:
        """Note a decision."""
        self.decisions.append({"step": step, "kind": kind, **numbers})

    def room(self) -> Room:
        """What the budget has left."""
        return Room(
            rollouts=None if self._planned is None else self._planned - self._referee.rollouts,
            optimizer_calls=None if self._planned_calls is None else self._planned_calls - self.calls,
            planned=self._planned,
        )

    def _try(self, resources: ResourcesUpdate, index: int, split: Split) -> Evaluation:
        world = self._referee.world
        task = (world.train if split == "train" else world.val)[index]
        prompt = resources.resources[NAME]
        assert isinstance(prompt, PromptTemplate)
        outcome = self._referee.attempt(prompt.template, task)
        rollout_id = f"ro-{self._referee.rollouts:012x}"
        self._outcomes[rollout_id] = (prompt.template, task, outcome)
        rollout = Rollout(rollout_id=rollout_id, input=task.text, start_time=0.0, mode=split, status="succeeded")
        if outcome.is_failure:
            failure = Failure(kind="agent", message="the prompt has no request")
            return Evaluation(task.text, rollout.model_copy(update={"status": "failed"}), None, failure)
        return Evaluation(task.text, rollout, outcome.score, None)


def _messages(prompt: str, task: Task, outcome: Outcome) -> list[Any]:
    asked = {"role": "user", "content": prompt.replace("{request}", task.text)}
    if outcome.is_failure:
        return [asked, {"error": "the prompt has no request"}]
    told = f"Feedback of the metric: {outcome.feedback}"
    return [asked, {"role": "assistant", "content": outcome.answer}, {"role": "user", "content": told}]
