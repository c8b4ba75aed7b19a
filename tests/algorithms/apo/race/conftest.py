import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from agentlightning import Failure, NamedResources, PromptTemplate, ResourcesUpdate, Rollout
from agentlightning.algorithm import BudgetSpent, Evaluation, ModelError, Room
from agentlightning_algorithms.apo.prompts import critics, editors
from agentlightning_algorithms.apo.race import RaceSearch
from agentlightning_algorithms.apo.race_settings import RaceSettings
from agentlightning_algorithms.lab import Split

Agent = Callable[[str, Any], float | Failure | None]
"""What a task comes to with a prompt. A failure of kind `infrastructure` says nothing about the agent."""

Models = Callable[[str, str], str | ModelError]
"""What a model answers at a step to a message."""

SEED = "Do {task}."


@dataclass
class SimulatedLab:
    """A lab without a store: rewards and answers are functions, and whatever is asked for ends in some order.

    Attributes:
        agent: What tasks come to.
        models: What models answer.
        tasks: The data sets.
        rollouts: The budget. None: no limit.
        optimizer_calls: The budget of calls. None: no limit.
        planned: The first budget of rollouts, where it was another one.
        soft_limit: After how many rollouts nothing new is admitted.
        delays: In which order things end.
        traced: Whether there are traces.
        tried: The tasks that were done, by step.
        asked: The messages that were sent, by step.
        decisions: What was decided.
    """

    agent: Agent
    models: Models
    tasks: dict[Split, Sequence[Any]]
    rollouts: int | None = None
    optimizer_calls: int | None = None
    planned: int | None = None
    soft_limit: int | None = None
    delays: Random | None = None
    traced: bool = True
    tried: dict[str, list[int]] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)
    decisions: list[dict[str, Any]] = field(default_factory=list)

    @property
    def spent(self) -> int:
        return sum(map(len, self.tried.values()))

    async def evaluate(
        self, step: str, resources: ResourcesUpdate, tasks: Sequence[int], split: Split
    ) -> list[Evaluation]:
        if not self.room().allows(rollouts=len(tasks)):
            raise BudgetSpent(self.room().reached or f"the budget of {self.rollouts} rollouts")
        self.tried.setdefault(step, []).extend(tasks)
        assert Counter(self.tried[step]).most_common(1)[0][1] == 1, f"a task is done twice in {step}"
        await self._delay()
        return [self._evaluation(resources, self.tasks[split][task]) for task in tasks]

    async def traces(self, evaluations: Sequence[Evaluation]) -> list[list[Any]]:
        return [[f"did {each.task}"] if self.traced else [] for each in evaluations]

    async def ask(self, step: str, model: str, message: str) -> str:
        if not self.room().allows(optimizer_calls=1):
            raise BudgetSpent(self.room().reached or f"the budget of {self.optimizer_calls} optimizer calls")
        assert step not in self.asked
        self.asked[step] = message
        await self._delay()
        answer = self.models(step, message)
        if isinstance(answer, ModelError):
            raise answer
        return answer

    async def add(self, step: str, resources: NamedResources, parent: ResourcesUpdate | None) -> ResourcesUpdate:
        await self._delay()
        return ResourcesUpdate(resources_id=step, version=1, create_time=0, update_time=0, resources=resources)

    def random(self, step: str) -> Random:
        return Random(step)

    def decide(self, step: str, kind: str, **numbers: Any) -> None:
        self.decisions.append({"step": step, "kind": kind, **numbers})

    def decided(self, *kinds: str) -> list[tuple[Any, ...]]:
        """The decisions of some kinds: what, on whom, and on how many pairs."""
        return [(each["kind"], each["version"], each.get("pairs")) for each in self.decisions if each["kind"] in kinds]

    def room(self) -> Room:
        return Room(
            rollouts=None if self.rollouts is None else self.rollouts - self.spent,
            optimizer_calls=None if self.optimizer_calls is None else self.optimizer_calls - len(self.asked),
            planned=self.planned or self.rollouts,
            reached="the budget of money" if self.soft_limit is not None and self.spent >= self.soft_limit else None,
        )

    async def _delay(self) -> None:
        for _ in range(self.delays.randrange(5) if self.delays else 0):
            await asyncio.sleep(0)

    def _evaluation(self, resources: ResourcesUpdate, task: Any) -> Evaluation:
        texts = [each.template for each in resources.resources.values() if isinstance(each, PromptTemplate)]
        outcome = self.agent("\n".join(texts), task)
        failure = outcome if isinstance(outcome, Failure) else None
        rollout = Rollout(rollout_id="ro-1", input=task, start_time=0, status="failed" if failure else "succeeded")
        return Evaluation(task, rollout, None if isinstance(outcome, Failure) else outcome, failure)


Run = Callable[..., Awaitable[tuple[RaceSearch, SimulatedLab]]]
"""Runs a race. `edits` are the editor's answers, by the place of the edit; all other steps are answered alike."""


def of_edits(edits: dict[str, str]) -> Models:
    """Models whose edits are given; what is not given says what the seed says, so that it is dropped."""
    return lambda step, message: "Do better." if step.endswith("critique") else edits.get(step, SEED)


@pytest.fixture
def race() -> Run:
    """Runs a race of some edits on 8 train and 30 validation tasks."""

    async def run(
        agent: Agent,
        models: Models | dict[str, str],
        *,
        initial: NamedResources | None = None,
        train: Sequence[Any] = tuple(f"train {number}" for number in range(8)),
        val: Sequence[Any] = tuple(f"val {number}" for number in range(30)),
        rollouts: int | None = None,
        optimizer_calls: int | None = None,
        planned: int | None = None,
        soft_limit: int | None = None,
        delays: Random | None = None,
        traced: bool = True,
        **settings: Any,
    ) -> tuple[RaceSearch, SimulatedLab]:
        lab = SimulatedLab(
            agent,
            of_edits(models) if isinstance(models, dict) else models,
            {"train": train, "val": val},
            rollouts=rollouts,
            optimizer_calls=optimizer_calls,
            planned=planned,
            soft_limit=soft_limit,
            delays=delays,
            traced=traced,
        )
        search = RaceSearch(
            settings=RaceSettings(**settings),
            critics=critics(None),
            editors=editors(None, "editor_rewrite.txt"),
            lab=lab,
            initial=initial or {"prompt": PromptTemplate(template=SEED)},
            train=train,
            val=val,
        )
        await search.run()
        return search, lab

    return run
