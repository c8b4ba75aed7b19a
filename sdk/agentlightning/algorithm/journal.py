"""Where a search tries prompts and asks models so that nothing it was told is ever lost: on the store, step by step.

Each rollout and each call of a model is kept under the step it was asked for. A search that is run again from its
beginning is told at once what is known. Knows no search, and of a budget only whom to ask.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from pydantic import BaseModel

from agentlightning.adapter import TraceAdapter, Usage
from agentlightning.adapter.reward import without_judges
from agentlightning.algorithm.asking import Ask, Correspondence
from agentlightning.algorithm.evaluation import Evaluation, evaluation_of
from agentlightning.algorithm.ledger import LATE, Ledger
from agentlightning.algorithm.room import Room
from agentlightning.types import EnqueueRolloutRequest, NamedResources, ResourcesUpdate, Rollout, RolloutMode, Span

_AT_ONCE: Final = 16
_WIDTH: Final = 500


@dataclass
class Journal:
    """The lab of a search (`agentlightning_algorithms.lab.Lab`), on a store.

    Attributes:
        ledger: What the run has, and what it may still do.
        datasets: The tasks, by split.
        adapter: Turns the spans of a rollout into conversations.
        ask_model: Asks a model. None: no model is asked.
        seed: Of all that is left to chance.
        timeout_seconds: Seconds that the rollouts of one `evaluate` may take. None: any.
        on_done: Told of each rollout that is done, whenever it was.

    Example:
        >>> from agentlightning.algorithm import Journal, Ledger
        >>> async def try_out(store: agl.LightningStore, prompt: str, tasks: list[str]) -> list[float | None]:
        ...     ledger = Ledger(store)
        ...     await ledger.open()
        ...     journal = Journal(ledger, {"val": tasks})
        ...     resources = await journal.add("add/v1", {"prompt_template": agl.PromptTemplate(template=prompt)}, None)
        ...     found = await journal.evaluate("val/v1", resources, range(len(tasks)), "val")
        ...     return [evaluation.score for evaluation in found]
    """

    ledger: Ledger
    datasets: Mapping[str, Sequence[Any]]
    adapter: TraceAdapter[Any] | None = None
    ask_model: Ask | None = None
    seed: int = 0
    timeout_seconds: float | None = None
    on_done: Callable[[str, RolloutMode], None] = lambda step, split: None

    def __post_init__(self) -> None:
        self._correspondence = Correspondence(self.ledger)
        self._reading = asyncio.Semaphore(_AT_ONCE)

    @property
    def usage(self) -> dict[str, Usage]:
        """What the calls of the algorithm's own models came to, by model."""
        return self._correspondence.usage

    async def evaluate(
        self,
        step: str,
        resources: ResourcesUpdate | None,
        tasks: Sequence[int],
        split: RolloutMode,
        *,
        labels: Mapping[str, str] | None = None,
    ) -> list[Evaluation]:
        """Have tasks done once with the resources; those that were done under the step are not done again.

        Args:
            step: Where the search is. Further tasks may be asked for under the same step.
            resources: What `add` returned. None: none.
            tasks: The tasks, as their places in the data set.
            split: The data set.
            labels: Further labels of the rollouts.

        Raises:
            BudgetSpent: When not all of those that are new can be paid; then none was enqueued.
            TooManyFailures: When the budget says so.
        """
        known = {task: self.ledger.rollout((step, split, task), resources) for task in tasks}
        new = [task for task, rollout in known.items() if rollout is None]
        self.ledger.reserve(rollouts=len(new))
        self.ledger.asked += len(known)
        requests = [self._request(step, resources, task, split, labels or {}) for task in new]
        made = await self.ledger.store.enqueue_many_rollouts(requests) if requests else []
        rollouts = {task: rollout for task, rollout in known.items() if rollout is not None}
        rollouts |= zip(new, made, strict=True)
        ended = await self._ended(step, split, rollouts)
        await self.ledger.count_usage([ended[task].rollout_id for task, at in rollouts.items() if not at.is_terminal])
        evaluations = []
        for task in tasks:
            self.ledger.note((step, split, task), ended[task])
            input = self.datasets[split][task]
            evaluations.append(evaluation_of(input, ended[task], late=ended[task].metadata == LATE))
        self.ledger.note_ends(evaluations)
        return evaluations

    async def traces(self, evaluations: Sequence[Evaluation]) -> list[list[Any]]:
        """What was said in each as the adapter gives it, and what failed; the judge's own calls are left out."""
        return await asyncio.gather(*(self._trace(each.rollout.rollout_id) for each in evaluations))

    async def ask(self, step: str, model: str, message: str) -> str:
        """The answer of a model, which is asked once under a step.

        Raises:
            ModelError: When there was none.
            BudgetSpent: When the call cannot be paid; then it was not made.
        """
        assert self.ask_model is not None, "Journal(ask_model=...) is not given"
        return await self._correspondence.ask(step, model, message, self.ask_model)

    async def add(self, step: str, resources: NamedResources, parent: ResourcesUpdate | None) -> ResourcesUpdate:
        """Keep a candidate, unless it is kept already."""
        if (known := self.ledger.resources(resources, parent)) is not None:
            return known
        made = await self.ledger.store.add_resources(resources, parent=parent)
        self.ledger.note_resources(made)
        return made

    def random(self, step: str) -> Random:
        """Randomness for this step alone."""
        return Random(f"{self.seed}/{step}")

    def decide(self, step: str, kind: str, **numbers: Any) -> None:
        """Note a decision."""
        self.ledger.decisions.append({"step": step, "kind": kind, **numbers})

    def room(self) -> Room:
        """What is left after all that was asked for up to here."""
        return self.ledger.room()

    def _request(
        self, step: str, resources: ResourcesUpdate | None, task: int, split: RolloutMode, labels: Mapping[str, str]
    ) -> EnqueueRolloutRequest:
        return EnqueueRolloutRequest(
            input=self.datasets[split][task],
            mode=split,
            resources_id=resources.resources_id if resources else None,
            labels={**labels, "step": step, "task": str(task)},
        )

    async def _ended(self, step: str, split: RolloutMode, rollouts: Mapping[int, Rollout]) -> dict[int, Rollout]:
        """The rollouts of the tasks as they ended."""
        under_way = {rollout.rollout_id: task for task, rollout in rollouts.items() if not rollout.is_terminal}
        for _ in range(len(rollouts) - len(under_way)):
            self.on_done(step, split)
        if not under_way:
            return dict(rollouts)
        await self._wait(step, split, list(under_way))
        found = await self.ledger.store.query_rollouts(rollout_id_in=list(under_way))
        return {**rollouts, **{under_way[rollout.rollout_id]: rollout for rollout in found}}

    async def _wait(self, step: str, split: RolloutMode, rollout_ids: Sequence[str]) -> None:
        """Wait for rollouts; those that are not done in time, or when the caller is cancelled, are cancelled.

        The former are marked first, so that nobody takes them for interrupted ones.
        """
        store, left = self.ledger.store, dict.fromkeys(rollout_ids)
        try:
            async for rollout in store.iter_finished(rollout_ids, self.timeout_seconds):
                del left[rollout.rollout_id]
                self.on_done(step, split)
            await asyncio.gather(*(store.update_rollout(rollout_id, metadata=LATE) for rollout_id in left))
        finally:
            if left:
                await store.cancel_rollouts(list(left))

    async def _trace(self, rollout_id: str) -> list[Any]:
        assert self.adapter is not None, "Journal(adapter=...) is not given"
        async with self._reading:
            spans = await self.ledger.store.query_spans(rollout_id, "latest")
        of_agent = without_judges(spans)
        adapted = self.adapter.adapt(of_agent)
        entries = adapted if isinstance(adapted, list) else [adapted]
        return [
            *(each.model_dump(mode="json") if isinstance(each, BaseModel) else each for each in entries),
            *_errors(of_agent),
        ]


def _errors(spans: Sequence[Span]) -> list[dict[str, Any]]:
    """What failed on the way, shortened."""
    return [
        {"error": (span.status.description or "it does not say how")[:_WIDTH], "span": span.name}
        for span in spans
        if span.status.status_code == "ERROR"
    ]
