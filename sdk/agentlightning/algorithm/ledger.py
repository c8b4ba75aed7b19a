"""What a run has done, as its store has it, and what it may still do. Keeps the budget; knows no algorithm."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from agentlightning.adapter.usage import Usage, summed, usage_by_model
from agentlightning.algorithm.budget import LEAST_ENDED, Budget
from agentlightning.algorithm.evaluation import Evaluation
from agentlightning.algorithm.room import BudgetSpent, Room
from agentlightning.errors import AlgorithmError
from agentlightning.store.base import LightningStore
from agentlightning.types import AttemptedRollout, Failure, NamedResources, ResourcesUpdate, Rollout

OPTIMIZER_LABELS: Final = {"kind": "optimizer"}
"""Labels of what is no rollout of the agent, but a call of one of the algorithm's own models."""
LATE: Final = {"late": True}
"""The metadata of a rollout that was cancelled because its batch took too long."""
Price = Callable[[Mapping[str, Usage]], float | None]
"""What calls of models cost. None: unknown."""
Place = tuple[str, str, int]
"""The step, the split and the task that a rollout is for."""

_BATCH: Final = 16


class TooManyFailures(AlgorithmError):
    """More of the rollouts failed than `Budget.max_failure_rate` allows; the run can be resumed.

    Those that failed are done again then.

    Example:
        >>> raise TooManyFailures("8 of 10 rollouts failed, more than max_failure_rate=0.5 allows")
        Traceback (most recent call last):
        ...
        agentlightning.algorithm.ledger.TooManyFailures: 8 of 10 rollouts failed, more than max_failure_rate=0.5 allows
    """


class Ledger:
    """The rollouts, calls and resources of one run, and the budget that they are paid from.

    `open` reads what the run has, once; from then on the ledger is told.

    Attributes:
        store: The store, bound to the run and its queue.
        budget: The most that may be spent.
        asked: Rollouts that were asked for up to now, whether they were there or not.
        calls_asked: The same of calls.
        failures: How many rollouts failed, by kind.
        usage: What calls of models came to, as far as the budget needs to know.
        decisions: What the algorithm noted.

    Example:
        >>> from agentlightning.algorithm import Budget, Ledger
        >>> ledger = Ledger(store, Budget(rollouts=10))
        >>> asyncio.run(ledger.open())
        >>> ledger.reserve(rollouts=8)
        >>> ledger.reserve(rollouts=3)
        Traceback (most recent call last):
        agentlightning.algorithm.room.BudgetSpent: stopped by the budget of 10 rollouts; a larger one can resume the run
        >>> ledger.made
        8
    """

    def __init__(
        self,
        store: LightningStore,
        budget: Budget | None = None,
        *,
        planned: int | None = None,
        price: Price | None = None,
    ) -> None:
        self.store = store
        self.budget = budget or Budget(max_failure_rate=1)
        self.asked = self.calls_asked = 0
        self.failures: Counter[str] = Counter()
        self.usage: dict[str, Usage] = {}
        self.decisions: list[dict[str, Any]] = []
        self._planned = self.budget.rollouts if planned is None else planned
        self._price = price
        self._began = time.monotonic()
        self._made = self._calls = self._ended = self._held = 0
        self._rollouts: dict[Place, Rollout] = {}
        self._unasked: set[Place] = set()
        self._counted: set[str] = set()
        self._of_models: dict[str, Rollout] = {}
        self._resources: list[ResourcesUpdate] = []

    async def open(self, *, restart: bool = False, after: Failure | None = None) -> None:
        """Read what the run has.

        Args:
            restart: Whether nobody works on it any more, so that what was begun has to be begun again.
            after: What the run was stopped by: failed rollouts or silent models, which stopped it, are tried again.
        """
        forgive = after is not None and after.type.rpartition(".")[2] == TooManyFailures.__name__
        self._resources = list(await self.store.query_resources(all_versions=True))
        async for rollout in self.store.iter_rollouts():
            if is_own_call(rollout):
                self._of_models[rollout.labels.get("step", "")] = rollout
                self._calls += _attempts(rollout)
                continue
            if _is_to_be_done_again(rollout, restart, forgive):
                rollout = await self.store.update_rollout(rollout.rollout_id, status="requeuing")
            self._made += 1
            if (place := _place(rollout)) is not None:
                self._rollouts[place] = rollout
                self._unasked.add(place)
        if self._counts_tokens:
            ended = [each.rollout_id for each in self._rollouts.values() if each.is_terminal]
            await self.count_usage([*ended, *(each.rollout_id for each in self._of_models.values())])
        if after is not None:
            self._forget_last_errors()

    @property
    def made(self) -> int:
        """Rollouts of the agent that there are."""
        return self._made

    @property
    def calls(self) -> int:
        """Calls of the algorithm's own models that were made."""
        return self._calls

    def hold_back(self, rollouts: int) -> None:
        """Keep so many rollouts of the budget for what comes after the algorithm; 0 gives them free."""
        self._held = rollouts

    def room(self) -> Room:
        """What is left after all that was asked for up to here."""
        budget = self.budget
        return Room(
            rollouts=None if budget.rollouts is None else max(budget.rollouts - self._held - self.asked, 0),
            optimizer_calls=None
            if budget.optimizer_calls is None
            else max(budget.optimizer_calls - self.calls_asked, 0),
            planned=None if self._planned is None else self._planned - self._held,
            reached=None if self._unasked else self.reached(),
        )

    def reached(self) -> str | None:
        """The limit after which nothing new is begun, in words, once it is reached."""
        budget = self.budget
        if budget.seconds is not None and time.monotonic() - self._began >= budget.seconds:
            return f"the budget of {budget.seconds:g} seconds"
        tokens = sum(used.input_tokens + used.output_tokens for used in self.usage.values())
        if budget.tokens is not None and tokens >= budget.tokens:
            return f"the budget of {budget.tokens} tokens ({tokens} are spent)"
        if budget.money is None:
            return None
        cost = self._price(self.usage) if self._price else None
        if cost is None and self.usage:
            return f"the budget of {budget.money:g} in money, as it is not known what {', '.join(self.usage)} costs"
        if cost is not None and cost >= budget.money:
            return f"the budget of {budget.money:g} in money ({cost:.4g} are spent)"
        return None

    def soft_spent(self) -> dict[str, float]:
        """What is spent of what cannot be set aside, as far as it is known."""
        tokens = sum(used.input_tokens + used.output_tokens for used in self.usage.values())
        cost = self._price(self.usage) if self._price else None
        known = {"seconds": time.monotonic() - self._began, "tokens": float(tokens)}
        return known if cost is None else {**known, "money": cost}

    def reserve(self, *, rollouts: int = 0, calls: int = 0) -> None:
        """Set aside what is about to be made.

        Raises:
            BudgetSpent: When the budget does not pay for all of it; then nothing is set aside.
        """
        budget = self.budget
        if not rollouts and not calls:
            return
        if (reached := self.reached()) is not None:
            raise BudgetSpent(reached)
        if budget.rollouts is not None and self._made + rollouts > budget.rollouts - self._held:
            raise BudgetSpent(f"the budget of {budget.rollouts} rollouts")
        if budget.optimizer_calls is not None and self._calls + calls > budget.optimizer_calls:
            raise BudgetSpent(f"the budget of {budget.optimizer_calls} optimizer calls")
        self._made += rollouts
        self._calls += calls

    def rollout(self, place: Place, resources: ResourcesUpdate | None) -> Rollout | None:
        """The rollout that was made for a place with the resources. None: there is none."""
        found = self._rollouts.get(place)
        wanted = None if resources is None else (resources.resources_id, resources.version)
        if found is None or (wanted and wanted != (found.resources_id, found.resources_version)):
            return None
        self._unasked.discard(place)
        return found

    def note(self, place: Place, rollout: Rollout) -> None:
        """Note what has become of the rollout for a place."""
        self._rollouts[place] = rollout

    def note_ends(self, evaluations: Iterable[Evaluation]) -> None:
        """Count how rollouts ended, each once.

        Raises:
            TooManyFailures: When too many have failed.
        """
        for each in evaluations:
            if each.rollout.rollout_id in self._counted:
                continue
            self._counted.add(each.rollout.rollout_id)
            self._ended += 1
            if each.failure is not None:
                self.failures[each.failure.kind] += 1
        failed, most = self.failures.total(), self.budget.max_failure_rate
        if self._ended >= LEAST_ENDED and failed / self._ended > most:
            kinds = ", ".join(f"{count} {kind}" for kind, count in self.failures.items())
            raise TooManyFailures(
                f"{failed} of {self._ended} rollouts failed ({kinds}), more than max_failure_rate={most:g} allows: "
                "see why with `agl rollouts list --status failed`, mend it, and resume the run"
            )

    def call(self, step: str, message: Any) -> Rollout | None:
        """The rollout of the call of a model under a step, if the same was asked. None: there is none."""
        found = self._of_models.get(step)
        return found if found is not None and found.input == message else None

    def note_call(self, step: str, rollout: Rollout) -> None:
        """Note what has become of the call under a step."""
        self._of_models[step] = rollout

    def resources(self, named: NamedResources, parent: ResourcesUpdate | None) -> ResourcesUpdate | None:
        """The record of a bundle with a parent. None: there is none."""
        of = (None, None) if parent is None else (parent.resources_id, parent.version)
        same = (each for each in self._resources if (each.parent_resources_id, each.parent_version) == of)
        return next((each for each in same if each.resources == named), None)

    def note_resources(self, resources: ResourcesUpdate) -> None:
        """Note a record that was made."""
        self._resources.append(resources)

    async def count_usage(self, rollout_ids: Iterable[str]) -> None:
        """Read what the calls of models in rollouts came to, if the budget has to know."""
        if not self._counts_tokens:
            return
        left = list(rollout_ids)
        while left:
            batch, left = left[:_BATCH], left[_BATCH:]
            spans = await asyncio.gather(*map(self.store.query_spans, batch))
            self.usage = summed([self.usage, *map(usage_by_model, spans)])

    @property
    def _counts_tokens(self) -> bool:
        return self.budget.tokens is not None or self.budget.money is not None

    def _forget_last_errors(self) -> None:
        """The calls that ended in nothing and were the last: they stopped the run, and are made again."""
        calls = sorted(self._of_models.items(), key=lambda call: call[1].end_time or 0.0, reverse=True)
        for step, rollout in calls:
            if rollout.status == "succeeded":
                return
            if rollout.status == "failed":
                self._of_models[step] = rollout.model_copy(update={"status": "cancelled"})


def is_own_call(rollout: Rollout) -> bool:
    """Whether it is a call of one of the algorithm's own models: it costs, and counts as no rollout of the agent."""
    return OPTIMIZER_LABELS.items() <= rollout.labels.items()


def _place(rollout: Rollout) -> Place | None:
    step, task = rollout.labels.get("step"), rollout.labels.get("task", "")
    if step is None or not task.isdecimal():
        return None
    return step, rollout.mode or "", int(task)


def _is_to_be_done_again(rollout: Rollout, restart: bool, forgive: bool) -> bool:
    if rollout.status in ("preparing", "running"):
        return restart
    if rollout.metadata == LATE:
        return False
    return rollout.status == "cancelled" or (forgive and rollout.status == "failed")


def _attempts(rollout: Rollout) -> int:
    return rollout.attempt.sequence_id if isinstance(rollout, AttemptedRollout) else 0
