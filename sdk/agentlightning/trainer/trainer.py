"""Brings store, runners and algorithm together for one call of `fit`. Knows no particular algorithm and no agent."""

import asyncio
import contextlib
import dataclasses
import inspect
import logging
import threading
import time
import traceback
import uuid
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from agentlightning.adapter import TraceAdapter, TraceToMessages
from agentlightning.algorithm import Algorithm, algo
from agentlightning.algorithm.evaluation import Evaluation, evaluate, mean_reward
from agentlightning.errors import AgentCheckError, AgentError, AlgorithmError, AttemptLostError
from agentlightning.litagent import as_agent
from agentlightning.store import LightningStoreClient
from agentlightning.store.embedded import DEFAULT_FOLDER, EmbeddedStore
from agentlightning.trainer import report
from agentlightning.trainer.execution import Runners, Strategy, runners_for
from agentlightning.types import (
    AttemptedRollout,
    Dataset,
    Failure,
    NamedResources,
    PromptTemplate,
    ResourcesUpdate,
    Run,
    as_resource,
)

T = TypeVar("T")

_log = logging.getLogger(__name__)
_DEV_TASKS = 10


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What `fit` came to.

    Attributes:
        run_id: The run's record in the store: `agl runs show RUN`.
        best_resources: The best resources found. None: the algorithm looks for none.
        prompt_path: The file that the best prompt was saved to.
        baseline_score: The mean reward of the initial resources on the validation set, if the algorithm says.
        best_score: That of the best resources.
        test_baseline_score: The mean reward of the initial resources on the test set, which nothing was chosen by.
        test_score: That of the best resources.
        rollouts: How many rollouts the algorithm spent.
        test_rollouts: How many the test set took.
        seconds: How long it all took.
        summary: All that the algorithm says of the run.
    """

    run_id: str
    best_resources: NamedResources | None
    prompt_path: Path | None
    baseline_score: float | None
    best_score: float | None
    test_baseline_score: float | None
    test_score: float | None
    rollouts: int
    test_rollouts: int
    seconds: float
    summary: dict[str, Any]


class Trainer:
    """Trains an agent: starts a store and runners, runs an algorithm, and keeps what it finds.

    Args:
        algorithm: What decides which resources to try: an `Algorithm`, or a function as for `algo`. None: the datasets
            are run once.
        n_runners: How many rollouts run at once.
        initial_resources: What to start from; a plain string is an f-string prompt template.
        adapter: What turns spans into the data the algorithm learns from. None: `TraceToMessages`.
        store: A store to use: a client, an address or a folder. None: that of `.agentlightning`, started if need be.
        queue: The queue of this trainer's rollouts. None: one of its own, so that nobody else takes its work.
        strategy: `processes` (the default, where they are possible) or `threads`, for debugging.
        max_rollouts: How many rollouts each runner takes. None: any number.
        folder: Where results and the embedded store are kept.
        n_workers: An older name of `n_runners`.
    """

    def __init__(
        self,
        *,
        algorithm: Any = None,
        n_runners: int | None = None,
        initial_resources: dict[str, Any] | None = None,
        adapter: TraceAdapter[Any] | None = None,
        store: LightningStoreClient | str | Path | None = None,
        queue: str | None = None,
        strategy: Strategy | None = None,
        max_rollouts: int | None = None,
        folder: str | Path = DEFAULT_FOLDER,
        n_workers: int | None = None,
    ) -> None:
        self.algorithm = _as_algorithm(algorithm)
        self.n_runners = _positive("n_runners", n_runners if n_runners is not None else n_workers or 1)
        self.initial_resources: NamedResources = {
            name: as_resource(value) for name, value in (initial_resources or {}).items()
        }
        self.adapter = adapter or TraceToMessages()
        self.store = store
        self.queue = queue
        self.strategy = strategy
        self.max_rollouts = max_rollouts
        self.folder = Path(folder)

    def fit(
        self,
        agent: Any,
        train_dataset: Dataset[Any] | None = None,
        *,
        val_dataset: Dataset[Any] | None = None,
        test_dataset: Dataset[Any] | None = None,
    ) -> TrainResult:
        """Train an agent.

        One rollout is run and shown before any other is spent. Ctrl-C ends everything and is raised again.

        Args:
            agent: A `LitAgent` or a function.
            train_dataset: The tasks to learn from.
            val_dataset: The tasks to choose by.
            test_dataset: Tasks that nothing is learnt from or chosen by: the initial and the best resources are scored
                on them at the end.

        Raises:
            AgentCheckError: The first rollout did not succeed or gave no reward.
            AlgorithmError: The algorithm cannot start or go on.
            AgentError: The agent cannot be one, or its runners keep dying.
            StoreUnavailableError: The store cannot be reached.
        """
        session = _Session(self, as_agent(agent), train_dataset, val_dataset, test_dataset)
        return session.run()

    def dev(
        self, agent: Any, train_dataset: Dataset[Any] | None = None, *, val_dataset: Dataset[Any] | None = None
    ) -> TrainResult:
        """Try an agent on a few tasks, in threads of this process so that a debugger can look inside; learn nothing."""
        from agentlightning_algorithms.baseline import Baseline

        trainer = Trainer(
            algorithm=Baseline(),
            n_runners=1,
            initial_resources=dict(self.initial_resources),
            adapter=self.adapter,
            store=self.store,
            queue=self.queue,
            strategy="threads",
            folder=self.folder,
        )
        return trainer.fit(agent, _first(train_dataset), val_dataset=_first(val_dataset))


class _Session:
    """One call of `fit`."""

    def __init__(self, trainer: Trainer, agent: Any, train: Any, val: Any, test: Any) -> None:
        self._trainer = trainer
        self._algorithm: Algorithm = trainer.algorithm
        self._agent = agent
        self._train, self._val, self._test = train, val, test
        self._began = time.monotonic()
        self._progress = report.Progress()

    def run(self) -> TrainResult:
        """Start what is needed, train, and take everything down again."""
        if not any(len(tasks) for tasks in (self._train, self._val) if tasks is not None):
            raise AlgorithmError("there is nothing to train on: give fit() a train_dataset or a val_dataset")
        with _store(self._trainer) as (address, embedded):
            queue = self._trainer.queue or f"trainer-{uuid.uuid4().hex[:12]}"
            client = LightningStoreClient(address, queue=queue)
            runners = runners_for(
                self._agent, client, self._trainer.n_runners, self._trainer.strategy, self._trainer.max_rollouts
            )
            runners.start()
            if embedded is not None:
                embedded.keep_running()
            try:
                return _run_anywhere(self._supervised(client, runners))
            finally:
                runners.stop()
                self._progress.end()

    async def _supervised(self, client: LightningStoreClient, runners: Runners) -> TrainResult:
        """Train until done, or until the runners cannot go on."""
        run = await client.create_run(type(self._algorithm).__name__, queue=client.queue)
        store = client.bind(run_id=run.run_id)
        training = asyncio.create_task(self._train_and_test(store, run))
        watching = asyncio.create_task(runners.watch(lambda number, code: _give_back(store, number, code)))
        try:
            await asyncio.wait({training, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not training.done():
                raise AgentError(f"the runners cannot go on: {watching.result()}")
            return await training
        except asyncio.CancelledError:
            await client.update_run(run.run_id, status="cancelled")
            raise
        except Exception as error:
            await client.update_run(run.run_id, status="failed", failure=_failure(error))
            raise
        finally:
            for task in (training, watching):
                task.cancel()
            await asyncio.gather(training, watching, return_exceptions=True)
            await client.close()

    async def _train_and_test(self, store: LightningStoreClient, run: Run) -> TrainResult:
        print(f"store at {store.server_address} (look inside: grpcurl -plaintext {store.server_address} list)")
        initial = (
            await store.add_resources(self._trainer.initial_resources) if self._trainer.initial_resources else None
        )
        calls = await self._check(store, initial)
        test_rollouts = 0 if self._test is None else 2 * len(self._test)
        estimate = self._algorithm.estimate(_length(self._train), _length(self._val))
        for line in report.cost_lines(estimate, calls, test_rollouts):
            print(line)
        self._give(store, run)
        await self._run_algorithm()
        self._progress.end()
        return await self._conclude(store, run, initial)

    async def _check(self, store: LightningStoreClient, resources: ResourcesUpdate | None) -> int:
        """Run one rollout and show its trace, so that a broken agent costs one call; say how many models it called."""
        task = (self._train if _length(self._train) else self._val)[0]
        [evaluation] = await evaluate(store, resources, [task], mode="train", labels={"phase": "check"})
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
        return len(report.model_calls(spans))

    def _give(self, store: LightningStoreClient, run: Run) -> None:
        self._algorithm.set_store(store)
        self._algorithm.set_run(run)
        self._algorithm.set_adapter(self._trainer.adapter)
        self._algorithm.set_initial_resources(self._trainer.initial_resources)
        self._algorithm.progress = self._progress

    async def _run_algorithm(self) -> None:
        if self._algorithm.is_async():
            outcome = self._algorithm.run(self._train, self._val)
        else:
            outcome = await asyncio.to_thread(self._algorithm.run, self._train, self._val)
        if inspect.isawaitable(outcome):
            await outcome

    async def _conclude(self, store: LightningStoreClient, run: Run, initial: ResourcesUpdate | None) -> TrainResult:
        found = self._algorithm.get_best_resources()
        best = initial if found is None or initial is None else await self._written(store, found, initial)
        scores = await self._test_scores(store, initial, best)
        name, prompt = _prompt(best) if found is not None else (None, None)
        path = None if prompt is None or name is None else self._save(prompt, run, name)
        summary = self._algorithm.summary()
        summary |= {
            "validation": _validation(summary),
            "test": scores,
            "rollouts": summary.get("rollouts", _length(self._train) + _length(self._val)),
            "test_rollouts": 0 if scores is None else 2 * _length(self._test),
            "seconds": time.monotonic() - self._began,
            "initial_prompt": _prompt(initial)[1].template if prompt is not None else None,  # type: ignore[union-attr]
            "best_prompt": None if prompt is None else prompt.template,
            "prompt_path": None if path is None else str(path),
        }
        changes: dict[str, Any] = {} if best is None else {"best_resources": best}
        run = await store.update_run(run.run_id, status="succeeded", summary=summary, **changes)
        for line in report.result_lines(run):
            print(line)
        return _result(run, found, path)

    async def _written(
        self, store: LightningStoreClient, found: NamedResources, initial: ResourcesUpdate
    ) -> ResourcesUpdate:
        """The record of the best resources: the algorithm's own if it wrote one, else one made now."""
        for written in await store.query_resources():
            if written.resources == found:
                return written
        return await store.add_resources(found, parent=initial)

    async def _test_scores(
        self, store: LightningStoreClient, initial: ResourcesUpdate | None, best: ResourcesUpdate | None
    ) -> dict[str, float] | None:
        """The mean rewards of the first and the best resources on the test split, one after the other."""
        if self._test is None or not len(self._test):
            return None
        tasks = [self._test[index] for index in range(len(self._test))]
        done = 0

        def on_done(_: object) -> None:
            nonlocal done
            done += 1
            self._progress("test split", done, 2 * len(tasks))

        baseline = await evaluate(store, initial, tasks, mode="test", on_done=on_done)
        after: list[Evaluation] = await evaluate(store, best, tasks, mode="test", on_done=on_done)
        self._progress.end()
        return {"baseline": mean_reward(baseline), "best": mean_reward(after)}

    def _save(self, prompt: PromptTemplate, run: Run, name: str) -> Path:
        return prompt.save(self._trainer.folder / run.run_id / name)


async def _give_back(store: LightningStoreClient, number: int, code: int) -> None:
    """Report for a runner that died what it cannot report itself: its rollouts are delivered again at once."""
    failure = Failure(kind="infrastructure", type="RunnerDied", message=f"runner {number} died with code {code}")
    for rollout in await store.query_rollouts(status_in=["preparing", "running"]):
        attempt = rollout.attempt if isinstance(rollout, AttemptedRollout) else None
        if attempt is not None and attempt.worker_id == f"Worker-{number}":
            with contextlib.suppress(AttemptLostError):
                await store.complete_attempt(attempt.rollout_id, attempt.attempt_id, failure=failure)


@contextlib.contextmanager
def _store(trainer: Trainer) -> Iterator[tuple[str, EmbeddedStore | None]]:
    """The address of the store to use, and the embedded store if it is one."""
    match trainer.store:
        case LightningStoreClient() as client:
            yield client.server_address, None
        case str() as address if not Path(address).is_dir():
            yield address, None
        case folder:
            with EmbeddedStore(trainer.folder if folder is None else Path(folder)) as embedded:
                yield embedded.address, embedded


def _run_anywhere(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also from within a running event loop, as in a notebook."""
    if asyncio._get_running_loop() is None:
        return asyncio.run(work)
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="trainer")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def _as_algorithm(algorithm: Any) -> Algorithm:
    if algorithm is None:
        from agentlightning_algorithms.baseline import Baseline

        return Baseline()
    if isinstance(algorithm, Algorithm):
        return algorithm
    if callable(algorithm) and not isinstance(algorithm, type):
        return algo(algorithm)
    raise AlgorithmError(
        f"algorithm is {algorithm!r}, expected an Algorithm (agl.APO(...)), a function as for @agl.algo, or None"
    )


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"{name} is {value!r}, expected at least 1")
    return value


def _length(dataset: Dataset[Any] | None) -> int:
    return 0 if dataset is None else len(dataset)


def _first(dataset: Dataset[Any] | None) -> list[Any] | None:
    return None if dataset is None else [dataset[index] for index in range(min(len(dataset), _DEV_TASKS))]


def _prompt(resources: ResourcesUpdate | None) -> tuple[str | None, PromptTemplate | None]:
    """The first prompt template of a bundle, and its name."""
    for name, resource in (resources.resources if resources else {}).items():
        if isinstance(resource, PromptTemplate):
            return name, resource
    return None, None


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
    )


def _failure(error: Exception) -> Failure:
    return Failure(
        kind="agent" if isinstance(error, AgentError) else "infrastructure",
        type=type(error).__qualname__,
        message=str(error),
        stack_trace="".join(traceback.format_exception(error)),
    )
