"""Training in one call, as its users meet it: what can be set, and `fit`. Knows no step of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentlightning.adapter import TraceAdapter, TraceToMessages
from agentlightning.algorithm import Algorithm, algo
from agentlightning.errors import AlgorithmError
from agentlightning.litagent import as_agent
from agentlightning.runner import Hook
from agentlightning.runner.hooks import as_hooks
from agentlightning.store import LightningStoreClient
from agentlightning.store.embedded import DEFAULT_FOLDER
from agentlightning.trainer.execution import Strategy
from agentlightning.trainer.session import Session, TrainResult
from agentlightning.types import Dataset, NamedResources, as_resource, tasks_of

_DEV_TASKS = 10


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
        hooks: What is done around each rollout: one hook, or several in this order. Each runner process has a copy of
            its own, so what a hook counts is to be seen here only with `strategy="threads"`.
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
        hooks: Hook | Sequence[Hook] | None = None,
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
        self.hooks = as_hooks(hooks)

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
        return Session(
            agent=as_agent(agent),
            train=train_dataset,
            val=val_dataset,
            test=test_dataset,
            algorithm=self.algorithm,
            n_runners=self.n_runners,
            initial_resources=self.initial_resources,
            adapter=self.adapter,
            store=self.store,
            queue=self.queue,
            strategy=self.strategy,
            max_rollouts=self.max_rollouts,
            folder=self.folder,
            hooks=self.hooks,
        ).run()

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
            hooks=self.hooks,
        )
        return trainer.fit(agent, tasks_of(train_dataset, _DEV_TASKS), val_dataset=tasks_of(val_dataset, _DEV_TASKS))


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
