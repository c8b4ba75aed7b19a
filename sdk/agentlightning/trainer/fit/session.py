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
from agentlightning.adapter import TraceAdapter
from agentlightning.adapter.usage import distinct_calls
from agentlightning.algorithm import Algorithm, Budget, Journal, Ledger
from agentlightning.errors import AgentCheckError, AgentError, AlgorithmError, StoreError
from agentlightning.litagent import LitAgent
from agentlightning.runner import Hook, LitAgentRunner
from agentlightning.runner.execution import in_thread
from agentlightning.runner.failure import failure_of
from agentlightning.store import LightningStoreClient
from agentlightning.trainer import report
from agentlightning.trainer.costs import means
from agentlightning.trainer.costs.counted import CHECK_LABELS
from agentlightning.trainer.costs.spending import Prices, cost_of
from agentlightning.trainer.fit import resumption
from agentlightning.trainer.fit.conclusion import Conclusion, result_of
from agentlightning.trainer.fit.interruption import Interruption, run_anywhere
from agentlightning.trainer.fit.serving import serving
from agentlightning.trainer.outcome.result import TrainResult
from agentlightning.trainer.progress.progress import Progress
from agentlightning.trainer.runners.execution import ExecutionStrategy, Strategy, runners_for
from agentlightning.trainer.runners.work import Runners, Work
from agentlightning.types import (
    Dataset,
    Failure,
    NamedResources,
    ResourcesUpdate,
    RolloutStatus,
    Run,
    tasks_of,
)

_log = logging.getLogger(__name__)

_LAST_WORD_SECONDS: Final = 1.0
"""How long a run that ends tries to tell the store what becomes of it."""
_UNDONE: Final[tuple[RolloutStatus, ...]] = ("queuing", "preparing", "running", "requeuing")


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
        return result_of(run, run_anywhere(read), Path(path) if path else None)

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
        conclusion = Conclusion(
            store,
            self.algorithm,
            self._journal,
            self._progress,
            self._following,
            self.prices,
            self.folder / run.run_id,
            self._began,
        )
        return await conclusion.of(run, initial)

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


def _is_finished(run: Run) -> bool:
    return run.status == "succeeded" and not (run.summary or {}).get("stopped_by")


def _length(dataset: Dataset[Any] | None) -> int:
    return 0 if dataset is None else len(dataset)
