"""What a run came to, once its algorithm is done: tested, saved, kept in its record, told. Starts and ends nothing."""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from agentlightning.adapter import Usage
from agentlightning.adapter.usage import summed
from agentlightning.algorithm import Algorithm, BudgetSpent, Journal
from agentlightning.algorithm.evaluation import mean_reward
from agentlightning.store import LightningStoreClient
from agentlightning.trainer import report
from agentlightning.trainer.costs import means
from agentlightning.trainer.costs.counted import NOT_COUNTED, is_counted
from agentlightning.trainer.costs.curve import with_costs
from agentlightning.trainer.costs.spending import Prices, cost_of, usage_of_summary
from agentlightning.trainer.outcome import holdout
from agentlightning.trainer.outcome.result import TrainResult
from agentlightning.trainer.progress.progress import Progress
from agentlightning.types import AttemptedRollout, NamedResources, PromptTemplate, ResourcesUpdate, RolloutStatus, Run

_log = logging.getLogger(__name__)

_ENDS: Final[Sequence[RolloutStatus]] = ("succeeded", "failed", "cancelled")


@dataclasses.dataclass(frozen=True)
class Conclusion:
    """Concludes a run.

    Attributes:
        store: Bound to the run.
        algorithm: What has done its work.
        journal: Where the test split is done.
        progress: Told how far that is; it knows what the rollouts used.
        following: What keeps it informed.
        prices: What a million tokens cost, by model.
        folder: Where the best prompt and the reports are saved.
        began: When `fit` began, by the monotonic clock.
    """

    store: LightningStoreClient
    algorithm: Algorithm
    journal: Journal
    progress: Progress
    following: "asyncio.Task[None]"
    prices: Prices
    folder: Path
    began: float

    async def of(self, run: Run, initial: ResourcesUpdate | None) -> tuple[TrainResult, list[str]]:
        """The result of a run that began with these resources, and what is said of it."""
        spent = await _spent(self.store)
        found = self.algorithm.get_best_resources()
        best = initial if found is None or initial is None else await self._written(run.run_id, found, initial)
        tested = await self._tested(initial, best)
        tuned = None if found is None else _prompt(best)
        path = None if tuned is None else tuned[1].save(self.folder / tuned[0])
        summary = self.algorithm.summary()
        summary |= await self._spendings(summary) | tested | await _ends(self.store)
        summary |= _prompts(initial, best, path) | {
            "validation": _validation(summary),
            "rollouts": summary.get("rollouts", spent),
            "budget": means.standing(self.journal.ledger),
            "seconds": time.monotonic() - self.began,
        }
        changes: dict[str, Any] = {} if best is None else {"best_resources": best}
        run = await self.store.update_run(run.run_id, status="succeeded", summary=summary, **changes)
        if path is not None:
            report.save_reports(run, path.parent)
        return result_of(run, found, path), report.result_lines(run)

    async def _spendings(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """What the agents' and the algorithm's calls of models came to."""
        of_agents = await self.progress.spent(self.store, self.following)
        usage = (
            None
            if of_agents is None
            else summed([of_agents, {} if self.journal.ledger.calls else usage_of_summary(summary)])
        )
        return {
            "failed": self.progress.failed,
            "tokens": None if usage is None else {model: dataclasses.asdict(used) for model, used in usage.items()},
            "cost": None if usage is None else cost_of(usage, self.prices),
            **({} if usage is None else await self._curve(summary)),
        }

    async def _curve(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """The curve of a search with what had been spent at each point."""
        if not self.prices or not summary.get("curve"):
            return {}
        rollouts = [rollout async for rollout in self.store.iter_rollouts()]
        has_own_calls = bool(usage_of_summary(summary))
        used = self.progress.by_rollout
        return {"curve": with_costs(summary["curve"], rollouts, used, self.prices, has_own_calls=has_own_calls)}

    async def _written(self, run_id: str, found: NamedResources, initial: ResourcesUpdate) -> ResourcesUpdate:
        """The record of the best resources: the one the algorithm noted in its run, else one made now."""
        noted = await self.store.get_run(run_id)
        if noted is not None and noted.best_resources_id is not None:
            written = await self.store.get_resources_by_id(noted.best_resources_id, noted.best_resources_version)
            if written is not None and written.resources == found:
                return written
        return await self.store.add_resources(found, parent=initial)

    async def _tested(self, initial: ResourcesUpdate | None, best: ResourcesUpdate | None) -> dict[str, Any]:
        """The mean rewards of the first and the best resources on the test split, and what the pairs of them say."""
        count, done = len(self.journal.datasets["test"]), 0
        nothing = {"test": None, "holdout": None, "test_rollouts": 0}
        if not count:
            return nothing

        def on_done(step: str, split: str) -> None:
            nonlocal done
            done += 1
            self.progress("test split", done, 2 * count)

        self.journal.on_done = on_done
        self.journal.ledger.hold_back(0)
        try:
            baseline = await self.journal.evaluate("test/first", initial, range(count), "test")
            after = await self.journal.evaluate("test/best", best, range(count), "test")
        except BudgetSpent as spent:
            _log.warning("The test split is left out: %s", spent)
            return nothing
        return {
            "test": {"baseline": mean_reward(baseline), "best": mean_reward(after)},
            "holdout": holdout.compared(baseline, after),
            "test_rollouts": 2 * count,
        }


def result_of(run: Run, found: NamedResources | None, path: Path | None) -> TrainResult:
    """What a run that is concluded came to, by its record.

    Args:
        run: The run.
        found: Its best resources, if it looked for any.
        path: The file of the best prompt, if there is one.
    """
    summary: dict[str, Any] = run.summary
    test, validation = summary["test"] or {}, summary["validation"] or {}
    return TrainResult(
        run_id=run.run_id,
        best_resources=found,
        prompt_path=path,
        baseline_score=validation.get("baseline"),
        best_score=validation.get("best"),
        test_baseline_score=test.get("baseline"),
        test_score=test.get("best"),
        rollouts=summary["rollouts"],
        test_rollouts=summary["test_rollouts"],
        seconds=summary["seconds"],
        summary=summary,
        tokens=None if summary["tokens"] is None else {m: Usage(**used) for m, used in summary["tokens"].items()},
        cost=summary["cost"],
        statuses=summary["statuses"],
        retried=summary["retried"],
    )


async def _spent(store: LightningStoreClient) -> int:
    """How many rollouts of the agent the run has made, the one that was shown beforehand not counted."""
    made = await store.query_rollouts(limit=1)
    others = [await store.query_rollouts(labels=labels, limit=1) for labels in NOT_COUNTED]
    return made.total - sum(each.total for each in others)


async def _ends(store: LightningStoreClient) -> dict[str, Any]:
    """How many rollouts of the agent ended how, and how many of all took more than one attempt.

    The one that was shown beforehand is not counted. They are read in portions, as there may be many.
    """
    counts: dict[str, int] = dict.fromkeys(_ENDS, 0)
    retried = 0
    async for rollout in store.iter_rollouts():
        if not is_counted(rollout):
            continue
        if rollout.status in counts:
            counts[rollout.status] += 1
        retried += isinstance(rollout, AttemptedRollout) and rollout.attempt.sequence_id > 1
    return {"statuses": counts, "retried": retried}


def _prompts(initial: ResourcesUpdate | None, best: ResourcesUpdate | None, path: Path | None) -> dict[str, Any]:
    """What the run began with and what it found, and where that is; nothing where no prompt was saved."""
    first, tuned = (None, None) if path is None else (_prompt(initial), _prompt(best))
    return {
        "initial_prompt": None if first is None else first[1].template,
        "best_prompt": None if tuned is None else tuned[1].template,
        "prompt_path": None if path is None else str(path),
        "report_paths": [] if path is None else report.report_paths(path.parent),
    }


def _prompt(resources: ResourcesUpdate | None) -> tuple[str, PromptTemplate] | None:
    """The name of the first prompt template of a bundle, and the template."""
    for name, resource in (resources.resources if resources else {}).items():
        if isinstance(resource, PromptTemplate):
            return name, resource
    return None


def _validation(summary: Mapping[str, Any]) -> dict[str, float] | None:
    if summary.get("best_score") is None:
        return None
    return {"baseline": summary.get("baseline_score"), "best": summary["best_score"]}
