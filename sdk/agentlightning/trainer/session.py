"""One call of `fit`, step by step: check, cost, train, test, save, report. Knows no particular algorithm."""

import asyncio
import contextlib
import dataclasses
import inspect
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from agentlightning import logs
from agentlightning.adapter import TraceAdapter, Usage
from agentlightning.adapter.usage import distinct_calls, summed
from agentlightning.algorithm import Algorithm, Budget, BudgetSpent, Journal, Ledger
from agentlightning.algorithm.evaluation import mean_reward
from agentlightning.algorithm.ledger import OPTIMIZER_LABELS
from agentlightning.errors import AgentCheckError, AgentError, AlgorithmError, StoreError
from agentlightning.litagent import LitAgent
from agentlightning.runner import Hook, LitAgentRunner
from agentlightning.runner.execution import in_thread
from agentlightning.runner.failure import failure_of
from agentlightning.store import LightningStoreClient
from agentlightning.trainer import holdout, means, report, resumption
from agentlightning.trainer.costs import with_costs
from agentlightning.trainer.execution import ExecutionStrategy, Strategy, runners_for
from agentlightning.trainer.interruption import Interruption, run_anywhere
from agentlightning.trainer.progress import Progress
from agentlightning.trainer.result import TrainResult
from agentlightning.trainer.serving import serving
from agentlightning.trainer.spending import Prices, cost_of, usage_of_summary
from agentlightning.trainer.tally import CHECK_LABELS
from agentlightning.trainer.work import Runners, Work
from agentlightning.types import (
    AttemptedRollout,
    Dataset,
    Failure,
    NamedResources,
    PromptTemplate,
    ResourcesUpdate,
    RolloutStatus,
    Run,
    tasks_of,
)

_log = logging.getLogger(__name__)

_LAST_WORD_SECONDS: Final = 1.0
"""How long a run that ends tries to tell the store what becomes of it."""
_UNDONE: Final[tuple[RolloutStatus, ...]] = ("queuing", "preparing", "running", "requeuing")

_NOT_COUNTED: Final = (CHECK_LABELS, OPTIMIZER_LABELS)
"""Labels of what is no rollout that the algorithm has the agent do."""
_ENDS: Final[Sequence[RolloutStatus]] = ("succeeded", "failed", "cancelled")


@dataclasses.dataclass
class Session:
    """One call of `fit`: a store and runners started, an algorithm run, and all taken down again."""

    agent: LitAgent[Any] | None
    train: Dataset[Any] | None
    val: Dataset[Any] | None
    test: Dataset[Any] | None
    algorithm: Algorithm
    n_runners: int
    initial_resources: NamedResources
    adapter: TraceAdapter[Any]
    store: LightningStoreClient | str | Path | None
    queue: str | None
    strategy: Strategy | ExecutionStrategy | None
    max_rollouts: int | None
    max_concurrency: int | None
    make_runner: Callable[[], LitAgentRunner[Any]]
    folder: Path
    port: int | None
    hooks: Sequence[Hook]
    prices: Prices
    budget: Budget
    resume: str | None = None
    resume_changed: bool = False

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self._progress = Progress(self.prices)
        self._of_run: LightningStoreClient | None = None
        self._fit = resumption.count_fit()
        if self.resume is None and (asked := resumption.asked_for(self._fit)) is not None:
            self.resume, self.resume_changed = asked

    def run(self) -> TrainResult:
        """Start what is needed, train, take everything down again, and tell what came of it."""
        if self.algorithm.needs_tasks and not (_length(self.train) or _length(self.val)):
            raise AlgorithmError("there is nothing to train on: give fit() a train_dataset or a val_dataset")
        means.check(self.algorithm, self.budget, self.resume, *map(_length, (self.train, self.val, self.test)))
        with (
            logs.shown(),
            Interruption() as interruption,
            serving(self.store, self.folder, self.port, interruption) as (address, embedded),
            self._progress.shown(is_live=self.strategy != "threads"),
        ):
            _log.info("Initializing Trainer...")
            before = None if self.resume is None else resumption.read_run(address, self.resume)
            if before is not None and _is_finished(before):
                return self._told_again(LightningStoreClient(address, run_id=before.run_id), before)
            queue = before.queue if before else self.queue or f"trainer-{uuid.uuid4().hex[:12]}"
            client = LightningStoreClient(address, queue=queue)
            work = Work(self.agent, client, self.max_rollouts, self.max_concurrency, self.hooks, self.make_runner)
            runners = runners_for(work, self.n_runners, self.strategy)
            try:
                runners.start()
                if embedded is not None:
                    embedded.keep_running()
                result, lines = interruption.run(lambda: self._kept(client, runners, before))
            finally:
                runners.stop()
                run_anywhere(self._cancel_rest)
        print(*lines, sep="\n")
        return result

    def _told_again(self, store: LightningStoreClient, run: Run) -> TrainResult:
        """What a run came to that has nothing left to do."""

        async def read() -> NamedResources | None:
            best = None if run.best_resources_id is None else await store.get_resources_by_id(run.best_resources_id)
            await store.close()
            return best.resources if best else None

        print(f"run {run.run_id} has succeeded already: nothing is done")
        print(*report.result_lines(run), sep="\n")
        path = run.summary.get("prompt_path")
        return _result(run, run_anywhere(read), Path(path) if path else None)

    async def _kept(
        self, client: LightningStoreClient, runners: Runners, before: Run | None
    ) -> tuple[TrainResult, list[str]]:
        """Work on a new run, or on the one from before, and let nobody else."""
        if before is None:
            run = await client.create_run(self._name, queue=client.queue, config=self._config())
        else:
            run = before
        with resumption.worked_on(run.run_id, self.folder / run.run_id):
            if before is not None:
                if not self.resume_changed:
                    resumption.check_unchanged(run, self._made_of())
                run = await client.update_run(run.run_id, status="running")
            return await self._supervised(client, runners, run, before.failure if before else None)

    @property
    def _name(self) -> str:
        return getattr(self.algorithm, "__name__", type(self.algorithm).__name__)

    @property
    def _has_runners(self) -> bool:
        """Whether there are runners that end with this process; others may still be at work on what they began."""
        return self.n_runners > 0 and self.strategy != "remote"

    def _made_of(self) -> dict[str, Any]:
        datasets = {"train_dataset": self.train, "val_dataset": self.val, "test_dataset": self.test}
        return resumption.made_of(self._name, self.algorithm.settings(), self.agent, self.initial_resources, datasets)

    def _config(self) -> dict[str, Any]:
        if not self.algorithm.is_durable:
            return {"settings": self.algorithm.settings()}
        return {
            "made_of": self._made_of(),
            "budget": dataclasses.asdict(self.budget),
            "started": resumption.started(self._fit),
        }

    async def _open_journal(self, store: LightningStoreClient, run: Run, after: Failure | None) -> None:
        planned = ((run.config or {}).get("budget") or {}).get("rollouts")
        ledger = Ledger(store, self.budget, planned=planned, price=partial(cost_of, prices=self.prices))
        await ledger.open(restart=self.queue is None and self._has_runners, after=after)
        ledger.hold_back(2 * _length(self.test))
        tasks = {
            "train": tasks_of(self.train, means.CHECKS) or tasks_of(self.val, means.CHECKS),
            "test": tasks_of(self.test),
        }
        self._journal = Journal(ledger, tasks)

    async def _supervised(
        self, client: LightningStoreClient, runners: Runners, run: Run, after: Failure | None
    ) -> tuple[TrainResult, list[str]]:
        """Train until done, or until the runners cannot go on."""
        self._of_run = store = client.bind(run_id=run.run_id)
        await self._open_journal(store, run, after)
        self._following = asyncio.create_task(self._progress.follow(store))
        training = asyncio.create_task(self._train_and_test(store, run))
        watching = asyncio.create_task(runners.watch(store))
        try:
            await asyncio.wait({training, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not training.done():
                raise AgentError(f"the runners cannot go on: {watching.result()}")
            return await training
        except asyncio.CancelledError:
            with contextlib.suppress(StoreError, TimeoutError):
                async with asyncio.timeout(_LAST_WORD_SECONDS):
                    await client.update_run(run.run_id, status="cancelled")
            self._say_how_to_go_on(run)
            raise
        except Exception as error:
            with contextlib.suppress(StoreError):  # it would hide what matters
                await client.update_run(run.run_id, status="failed", failure=failure_of(error))
            self._say_how_to_go_on(run)
            raise
        finally:
            tasks = training, watching, self._following
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await client.close()

    def _say_how_to_go_on(self, run: Run) -> None:
        if self.algorithm.is_durable:
            print(f"what run {run.run_id} has done is kept; it can go on: agl runs resume {run.run_id}", flush=True)

    async def _cancel_rest(self) -> None:
        """Cancel what the run has left undone: nobody waits for it, and runners elsewhere would go on with it."""
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(_LAST_WORD_SECONDS):
                if self._of_run and (rest := await self._of_run.query_rollouts(status_in=_UNDONE)):
                    await self._of_run.cancel_rollouts([rollout.rollout_id for rollout in rest])

    async def _train_and_test(self, store: LightningStoreClient, run: Run) -> tuple[TrainResult, list[str]]:
        print(f"store at {store.server_address} (look inside: grpcurl -plaintext {store.server_address} list)")
        initial = await self._journal.add("add/v0", self.initial_resources, None) if self.initial_resources else None
        calls = await self._check(store, initial)
        test_rollouts = 0 if self.test is None else 2 * len(self.test)
        estimate = self.algorithm.estimate(_length(self.train), _length(self.val))
        for line in report.cost_lines(estimate, calls, test_rollouts):
            print(line)
        self._give(store, run)
        await self._run_algorithm()
        return await self._conclude(store, run, initial)

    async def _check(self, store: LightningStoreClient, resources: ResourcesUpdate | None) -> int:
        """Run one rollout and show its trace, so that a broken agent costs one call; say how many models it called."""
        if not self._journal.datasets["train"]:
            return 0  # The algorithm has tasks of its own.
        [evaluation] = await self._journal.evaluate("check", resources, [0], "train", labels=CHECK_LABELS)
        spans = await store.query_spans(evaluation.rollout.rollout_id, "latest")
        for line in report.trace_lines(evaluation, spans):
            print(f"check: {line}")
        if evaluation.failure is not None:
            raise AgentCheckError(
                f"the first rollout failed with {evaluation.failure}\n{evaluation.failure.stack_trace}".rstrip()
            )
        if evaluation.reward is None:
            raise AgentCheckError(
                "the first rollout has no reward: return a number from the agent, or call agl.emit_reward() in it"
            )
        return len(distinct_calls(spans))

    def _give(self, store: LightningStoreClient, run: Run) -> None:
        self.algorithm.set_store(store)
        self.algorithm.set_run(run)
        self.algorithm.set_ledger(self._journal.ledger)
        self.algorithm.set_adapter(self.adapter)
        self.algorithm.set_initial_resources(self.initial_resources)
        self.algorithm.progress = self._progress

    async def _run_algorithm(self) -> None:
        if self.algorithm.is_async():
            outcome = self.algorithm.run(self.train, self.val)
        else:
            # Not one of the loop's threads: it waits for these however long they take when it ends.
            outcome = await in_thread(lambda: self.algorithm.run(self.train, self.val))
        if inspect.isawaitable(outcome):
            await outcome

    async def _conclude(
        self, store: LightningStoreClient, run: Run, initial: ResourcesUpdate | None
    ) -> tuple[TrainResult, list[str]]:
        spent = await _spent(store)
        found = self.algorithm.get_best_resources()
        best = initial if found is None or initial is None else await self._written(store, run.run_id, found, initial)
        scores, on_pairs = await self._test_scores(store, initial, best)
        statuses, retried = await _ends(store)
        tuned = None if found is None else _prompt(best)
        first = None if tuned is None else _prompt(initial)
        path = None if tuned is None else tuned[1].save(self.folder / run.run_id / tuned[0])
        summary = self.algorithm.summary()
        summary |= await self._spendings(store, summary) | {
            "validation": _validation(summary),
            "test": scores,
            "holdout": on_pairs,
            "rollouts": summary.get("rollouts", spent),
            "test_rollouts": 0 if scores is None else 2 * _length(self.test),
            "statuses": statuses,
            "retried": retried,
            "budget": means.standing(self._journal.ledger),
            "seconds": time.monotonic() - self._began,
            "initial_prompt": None if first is None else first[1].template,
            "best_prompt": None if tuned is None else tuned[1].template,
            "prompt_path": None if path is None else str(path),
            "report_paths": [] if path is None else report.report_paths(path.parent),
        }
        changes: dict[str, Any] = {} if best is None else {"best_resources": best}
        run = await store.update_run(run.run_id, status="succeeded", summary=summary, **changes)
        if path is not None:
            report.save_reports(run, path.parent)
        return _result(run, found, path), report.result_lines(run)

    async def _spendings(self, store: LightningStoreClient, summary: dict[str, Any]) -> dict[str, Any]:
        """What the agents' and the algorithm's calls of models came to."""
        of_agents = await self._progress.spent(store, self._following)
        usage = (
            None
            if of_agents is None
            else summed([of_agents, {} if self._journal.ledger.calls else usage_of_summary(summary)])
        )
        return {
            "failed": self._progress.failed,
            "tokens": None if usage is None else {model: dataclasses.asdict(used) for model, used in usage.items()},
            "cost": None if usage is None else cost_of(usage, self.prices),
            **({} if usage is None else await self._curve(store, summary)),
        }

    async def _curve(self, store: LightningStoreClient, summary: dict[str, Any]) -> dict[str, Any]:
        """The curve of a search with what had been spent at each point."""
        if not self.prices or not summary.get("curve"):
            return {}
        rollouts = [rollout async for rollout in store.iter_rollouts()]
        has_own_calls = bool(usage_of_summary(summary))
        used = self._progress.by_rollout
        return {"curve": with_costs(summary["curve"], rollouts, used, self.prices, has_own_calls=has_own_calls)}

    async def _written(
        self, store: LightningStoreClient, run_id: str, found: NamedResources, initial: ResourcesUpdate
    ) -> ResourcesUpdate:
        """The record of the best resources: the one the algorithm noted in its run, else one made now."""
        noted = await store.get_run(run_id)
        if noted is not None and noted.best_resources_id is not None:
            written = await store.get_resources_by_id(noted.best_resources_id, noted.best_resources_version)
            if written is not None and written.resources == found:
                return written
        return await store.add_resources(found, parent=initial)

    async def _test_scores(
        self, store: LightningStoreClient, initial: ResourcesUpdate | None, best: ResourcesUpdate | None
    ) -> tuple[dict[str, float] | None, dict[str, Any] | None]:
        """The mean rewards of the first and the best resources on the test split, and what the pairs of them say."""
        if not (tasks := tasks_of(self.test)):
            return None, None
        done = 0

        def on_done(step: str, split: str) -> None:
            nonlocal done
            done += 1
            self._progress("test split", done, 2 * len(tasks))

        self._journal.on_done = on_done
        self._journal.ledger.hold_back(0)
        try:
            baseline = await self._journal.evaluate("test/first", initial, range(len(tasks)), "test")
            after = await self._journal.evaluate("test/best", best, range(len(tasks)), "test")
        except BudgetSpent as spent:
            _log.warning("The test split is left out: %s", spent)
            return None, None
        scores = {"baseline": mean_reward(baseline), "best": mean_reward(after)}
        return scores, holdout.compared(baseline, after)


async def _spent(store: LightningStoreClient) -> int:
    """How many rollouts of the agent the run has made, the one that was shown beforehand not counted."""
    made = await store.query_rollouts(limit=1)
    others = [await store.query_rollouts(labels=labels, limit=1) for labels in _NOT_COUNTED]
    return made.total - sum(each.total for each in others)


async def _ends(store: LightningStoreClient) -> tuple[dict[str, int], int]:
    """How many rollouts of the agent ended how, and how many of all took more than one attempt.

    The one that was shown beforehand is not counted. They are read in portions, as there may be many.
    """
    counts: dict[str, int] = dict.fromkeys(_ENDS, 0)
    retried = 0
    async for rollout in store.iter_rollouts():
        if any(labels.items() <= rollout.labels.items() for labels in _NOT_COUNTED):
            continue
        if rollout.status in counts:
            counts[rollout.status] += 1
        retried += isinstance(rollout, AttemptedRollout) and rollout.attempt.sequence_id > 1
    return counts, retried


def _is_finished(run: Run) -> bool:
    return run.status == "succeeded" and not (run.summary or {}).get("stopped_by")


def _length(dataset: Dataset[Any] | None) -> int:
    return 0 if dataset is None else len(dataset)


def _prompt(resources: ResourcesUpdate | None) -> tuple[str, PromptTemplate] | None:
    """The name of the first prompt template of a bundle, and the template."""
    for name, resource in (resources.resources if resources else {}).items():
        if isinstance(resource, PromptTemplate):
            return name, resource
    return None


def _validation(summary: dict[str, Any]) -> dict[str, float] | None:
    if summary.get("best_score") is None:
        return None
    return {"baseline": summary.get("baseline_score"), "best": summary["best_score"]}


def _result(run: Run, found: NamedResources | None, path: Path | None) -> TrainResult:
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
