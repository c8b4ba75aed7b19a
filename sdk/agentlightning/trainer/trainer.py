"""Training in one call, as its users meet it: what can be set, and `fit`. Knows no step of it.

What only `fit` needs is imported when a Trainer is made, so that the name costs nothing.
"""

import copy
import logging
from collections.abc import Coroutine, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from agentlightning.errors import TrainerError
from agentlightning.trainer.arguments.checks import (
    agent_of,
    algorithm_of,
    budget_of,
    check_dataset,
    either,
    folder_of,
    hooks_of,
    is_address,
    port_of,
    prices_of,
    queue_of,
    refuse_proxy,
    resources_of,
    store_of,
    tracer_of,
    whole_number,
)
from agentlightning.trainer.arguments.components import ADAPTER, RUNNER, build
from agentlightning.trainer.arguments.strategy import needs_agent, placement_of
from agentlightning.trainer.outcome.result import TrainResult
from agentlightning.types import UNSET, Dataset, Unset, tasks_of

if TYPE_CHECKING:
    from agentlightning.adapter import TraceAdapter
    from agentlightning.algorithm import Budget
    from agentlightning.litagent import LitAgent
    from agentlightning.runner import LitAgentRunner
    from agentlightning.server import LitRollout
    from agentlightning.tracer import Tracer

_log = logging.getLogger(__name__)

_DEV_TASKS = 10
_DEV_NEED = "dev() runs it in this process"


class Trainer:
    """Trains an agent: starts a store and runners, runs an algorithm, and keeps what it finds.

    A part of training (`algorithm`, `adapter`, `tracer`, `store`, `runner`, `strategy`, each of `hooks`) is given as an
    object, a class, a function that makes one, a short name, an import path such as `"package.module.name"`, or a dict
    whose "type" is any of these and whose other keys are arguments. What was made of it, and every other parameter, is
    an attribute of the same name.

    Args:
        algorithm: What decides which resources to try: an `Algorithm`, `"apo"`, `"baseline"`, or a function with
            parameters as for `algo` (one without is called for the algorithm). None: the datasets are run once.
        n_runners: How many runners there are. None: 1. 0: none of our own, as with the strategy `remote`.
        initial_resources: What to start from; a plain string is an f-string prompt template.
        adapter: What turns spans into the data the algorithm learns from; its short name is that of its class. A dict
            without "type" has arguments of `TracerTraceToTriplet`. None: `TraceToMessages`.
        store: A store to use: a client, an address, or the folder or database file of one that is started if need be.
            None: that of `folder`.
        queue: The queue of this trainer's rollouts. None: one of its own, so that nobody else takes its work.
        strategy: `"processes"` (the default, where they are possible; `"cs"` in existing code); `"threads"` (`"shm"`),
            for debugging, without live lines; `"remote"`, where they are started elsewhere, on this `queue`, by `agl
            runner` or in another language; a `RunnerCommand`, which starts such a command here; or another
            `ExecutionStrategy`. A dict may say `n_runners` and `server_port` too.
        max_rollouts: How many rollouts each runner takes. None: any number.
        max_concurrency: How many rollouts each runner does at once. None: 4 of an agent that is async, 1 of any other.
        folder: Where results and the embedded store are kept. None: `.agentlightning`.
        hooks: What is done around each rollout: one hook, or several in this order. Each runner process has a copy of
            its own, so what a hook counts is to be seen here only with `strategy="threads"`.
        prices: What a million tokens cost, those sent and those that come back, by model, in any currency:
            `{"gpt-4.1-mini": (0.4, 1.6)}`. The cost of a run is unknown when a model it called has none.
        budget: The most that a run may spend; its `money` goes by `prices`. None: no limit but that on failures.
        tracer: What records the agent's work, in every runner. None: a `Tracer`.
        instrumentors: The instrumentors that it enables; see `Tracer`.
        runner: What runs the agent. A class or function is called in each runner process, and for `tracer` and
            `max_rollouts` if it has such parameters; each process has a copy of an object. None: `LitAgentRunner`.
        port: Where the embedded store listens. None: at any free port.
        backend: The address of an `AgentLightningServer`, or of any store, to work for; see `fit`.
        n_workers: An older name of `n_runners`.
        max_tasks: An older name of `max_rollouts`.
        triplet_exporter: An older name of `adapter`.
        llm_proxy: Refused, as there is none yet: the agent is given its endpoint as a resource.
        daemon: Without effect: no runner outlives its trainer.
        dev: Without effect: there is the method `dev`.

    Raises:
        TrainerError: A parameter cannot be used, or two that mean the same differ; the message says which and why.

    Example:
        >>> import agentlightning as agl
        >>> trainer = agl.Trainer(
        ...     algorithm="baseline", n_runners=2, strategy="threads", folder=tmp_path,
        ...     initial_resources={"prompt_template": "Hi {name}"}, adapter={"agent_match": "writer"},
        ... )
        >>> trainer.adapter.agent_match, trainer.n_runners
        ('writer', 2)
        >>> agl.Trainer(n_runners="8")
        Traceback (most recent call last):
        agentlightning.errors.TrainerError: n_runners is '8', expected a whole number of at least 0
    """

    def __init__(
        self,
        *,
        algorithm: Any = None,
        n_runners: int | None = None,
        initial_resources: Mapping[str, Any] | None = None,
        adapter: Any = None,
        store: Any = None,
        queue: str | None = None,
        strategy: Any = None,
        max_rollouts: int | None = None,
        max_concurrency: int | None = None,
        folder: str | Path | None = None,
        hooks: Any = None,
        prices: Mapping[str, tuple[float, float]] | None = None,
        budget: "Budget | None" = None,
        tracer: Any = None,
        instrumentors: Iterable[str] | None = None,
        runner: Any = None,
        port: int | None = None,
        backend: str | None = None,
        n_workers: int | None = None,
        max_tasks: int | None = None,
        triplet_exporter: Any = None,
        llm_proxy: None = None,
        daemon: bool | None = None,
        dev: bool = False,
    ) -> None:
        refuse_proxy(llm_proxy)
        _say_without_effect(daemon, dev)
        placement = placement_of(strategy)
        self.strategy = placement.strategy
        runners = either("n_runners", n_runners, "n_workers", n_workers)
        runners = either("n_runners", runners, "strategy['n_runners']", placement.n_runners)
        self.n_runners = 1 if runners is None else whole_number("n_runners", runners, 0)
        self.max_concurrency = None if max_concurrency is None else whole_number("max_concurrency", max_concurrency, 1)
        self.initial_resources = resources_of(initial_resources)
        self.algorithm = algorithm_of(algorithm)
        self._has_algorithm = algorithm is not None
        adapter = either("adapter", adapter, "triplet_exporter", triplet_exporter)
        self.adapter: TraceAdapter[Any] = build(ADAPTER, "TraceToMessages" if adapter is None else adapter)
        self.backend = backend
        self.store = store_of(either("store", store, "backend", backend))
        self.port = port_of(either("port", port, "strategy['server_port']", placement.port), self.store)
        self.queue = queue_of(queue)
        self.folder = folder_of(folder)
        self.hooks = hooks_of(hooks)
        self.prices = prices_of(prices)
        self.budget = budget_of(budget, self.prices)
        most = either("max_rollouts", max_rollouts, "max_tasks", max_tasks)
        self._set_runner(
            runner, tracer_of(tracer, instrumentors), None if most is None else whole_number("max_rollouts", most, 1)
        )

    @property
    def n_workers(self) -> int:
        """An older name of `n_runners`."""
        return self.n_runners

    @property
    def max_tasks(self) -> int | None:
        """An older name of `max_rollouts`."""
        return self.max_rollouts

    @property
    def triplet_exporter(self) -> "TraceAdapter[Any]":
        """An older name of `adapter`."""
        return self.adapter

    @overload
    def fit(self, agent: Any, train_dataset: str, algorithm: Any = None) -> TrainResult | None: ...
    @overload
    def fit(
        self,
        agent: Any = None,
        train_dataset: Dataset[Any] | None = None,
        algorithm: Any = None,
        *,
        val_dataset: Dataset[Any] | None = None,
        test_dataset: Dataset[Any] | None = None,
        resume: str | None = None,
        resume_changed: bool = False,
    ) -> TrainResult: ...
    @overload
    def fit(
        self,
        agent: Any = None,
        train_dataset: Dataset[Any] | None = None,
        algorithm: Any = None,
        *,
        val_dataset: Dataset[Any] | None = None,
        test_dataset: Dataset[Any] | None = None,
        backend: str,
    ) -> TrainResult | None: ...
    def fit(
        self,
        agent: Any = None,
        train_dataset: Dataset[Any] | str | None = None,
        algorithm: Any = None,
        *,
        val_dataset: Dataset[Any] | None = None,
        test_dataset: Dataset[Any] | None = None,
        backend: str | None = None,
        resume: str | None = None,
        resume_changed: bool = False,
    ) -> TrainResult | None:
        """Train an agent, or do the rollouts that a server elsewhere queues.

        To train: one rollout is run and shown before any other is spent. Ctrl-C ends everything within a few seconds,
        whatever runs, and is raised again; SIGTERM likewise ends in a SystemExit. No process, port or lock is left
        behind. What the run has then left undone is cancelled.

        Log lines go where the program sends them, and to stderr if it says nothing; `agl.setup_logging("WARNING")`
        silences them.

        With a `backend` and neither an algorithm nor a dataset, the runners connect to it and do what is queued there
        until Ctrl-C, or until it has not answered for a minute; it may start later than they do. With either of these,
        the backend is the store to train with.

        Args:
            agent: A `LitAgent` or a function. None: the runners have their own, as they do that are started elsewhere
                (`n_runners=0`, or the strategy `remote`) or are a `RunnerCommand`.
            train_dataset: The tasks to learn from; or the backend, as existing code has it.
            algorithm: The algorithm, if it is another than the trainer's.
            val_dataset: The tasks to choose by.
            test_dataset: Tasks that nothing is learnt from or chosen by: the initial and the best resources are scored
                on them at the end.
            backend: The backend, if it is another than the trainer's.
            resume: A run to go on with, `run-...`, from where it was ended by its budget, by Ctrl-C or in any other
                way: what it did is not done again. Everything but the budget has to be as it was.
            resume_changed: Whether to go on though it is not. What still is the same is not done again.

        Returns:
            What training came to; None after the work for a backend.

        Raises:
            TrainerError: A dataset cannot be one, or there is no agent for runners that need one.
            AgentCheckError: The first rollout did not succeed or gave no reward.
            AlgorithmError: The algorithm cannot start or go on.
            AgentError: The agent cannot be one, or its runners keep dying.
            StoreUnavailableError: The store cannot be reached, or cannot listen at `port`.

        Example:
            >>> import agentlightning as agl
            >>> trainer = agl.Trainer(strategy="threads", folder=tmp_path)
            >>> result = trainer.fit(lambda task: float(len(task)), ["a", "bcd"])
            store at ...
            >>> result.statuses["succeeded"], result.summary["train"]["mean_reward"]
            (2, 2.0)
        """
        from agentlightning.trainer.fit.session import Session

        if isinstance(train_dataset, str) and ":" in train_dataset and is_address(train_dataset):
            backend, train_dataset = train_dataset, None
        check_dataset("train_dataset", train_dataset)
        check_dataset("val_dataset", val_dataset)
        check_dataset("test_dataset", test_dataset)
        if algorithm is not None or backend is not None or self.backend is not None:
            trainer = self._for(backend or self.backend, algorithm)
            if trainer._has_algorithm or train_dataset is not None or val_dataset is not None:
                return trainer.fit(
                    agent,
                    train_dataset,
                    val_dataset=val_dataset,
                    test_dataset=test_dataset,
                    resume=resume,
                    resume_changed=resume_changed,
                )
            trainer._work(agent)
            return None
        taken = self._agent_for_runners(agent)
        return Session(
            agent=taken,
            train=train_dataset,
            val=val_dataset,
            test=test_dataset,
            algorithm=self.algorithm,
            n_runners=self.n_runners,
            initial_resources=self.initial_resources,
            adapter=self._adapter_for(taken),
            store=self.store,
            queue=self.queue,
            strategy=self.strategy,
            max_rollouts=self.max_rollouts,
            max_concurrency=self.max_concurrency,
            make_runner=self._make_runner,
            folder=self.folder,
            port=self.port,
            hooks=self.hooks,
            prices=self.prices,
            budget=self.budget,
            resume=resume,
            resume_changed=resume_changed,
        ).run()

    @overload
    def dev(
        self, agent: Any, train_dataset: Dataset[Any] | None = None, *, val_dataset: Dataset[Any] | None = None
    ) -> TrainResult: ...
    @overload
    def dev(
        self, agent: Any, *, task: Any, resources: Mapping[str, Any] | None = None
    ) -> Coroutine[Any, Any, "LitRollout"]: ...
    def dev(
        self,
        agent: Any,
        train_dataset: Dataset[Any] | None = None,
        *,
        val_dataset: Dataset[Any] | None = None,
        task: Any | Unset = UNSET,
        resources: Mapping[str, Any] | None = None,
    ) -> "TrainResult | Coroutine[Any, Any, LitRollout]":
        """Try an agent in this process, so that a debugger can look inside; learn nothing.

        Args:
            agent: A `LitAgent` or a function.
            train_dataset: Tasks, of which a few are done, in threads.
            val_dataset: More of them.
            task: One task instead, as one of mode `train`. What the agent raises is raised.
            resources: What the agent is given beside that task. None: the latest in the store.

        Returns:
            What the tasks came to; for one task something to `await`, which returns its rollout.

        Example:
            >>> import asyncio
            >>> import agentlightning as agl
            >>> rollout = asyncio.run(agl.Trainer(folder=tmp_path).dev(lambda task: float(len(task)), task="four"))
            >>> rollout.final_reward
            4.0
        """
        if not isinstance(task, Unset):
            from agentlightning.trainer.fit.single import run_one

            taken = agent_of(agent, _DEV_NEED)
            return run_one(taken, task, resources, store=self.store, folder=self.folder, hooks=self.hooks)
        agent = agent_of(agent, _DEV_NEED)
        check_dataset("train_dataset", train_dataset)
        check_dataset("val_dataset", val_dataset)
        trainer = copy.copy(self)
        trainer.backend = None
        trainer.algorithm, trainer.strategy = algorithm_of("baseline"), "threads"
        trainer.budget = budget_of(None, {})
        trainer.n_runners = trainer.max_concurrency = 1
        return trainer.fit(agent, tasks_of(train_dataset, _DEV_TASKS), val_dataset=tasks_of(val_dataset, _DEV_TASKS))

    def _for(self, backend: str | None, algorithm: Any) -> "Trainer":
        """The same trainer for another store and algorithm."""
        trainer = copy.copy(self)
        trainer.backend = None
        if backend is not None:
            trainer.store = store_of(backend)
        if algorithm is not None:
            trainer.algorithm, trainer._has_algorithm = algorithm_of(algorithm), True
        return trainer

    def _work(self, agent: Any) -> None:
        """Do what others queue in the store."""
        from agentlightning.trainer.fit.backend import client_for_runners, work_for
        from agentlightning.trainer.runners.work import Work

        client = client_for_runners(str(self.store)).bind(queue=self.queue)
        work = Work(
            agent_of(agent, "the runners for a store elsewhere run it"),
            client,
            self.max_rollouts,
            self.max_concurrency,
            self.hooks,
            make_runner=self._make_runner,
        )
        work_for(work, self.n_runners, self.strategy)

    def _set_runner(self, spec: Any, tracer: "Tracer | None", max_rollouts: int | None) -> None:
        """Make one runner, to see that it can be; the runners that work are made where they work."""
        self._make_runner = partial(
            build, RUNNER, "LitAgentRunner" if spec is None else spec, tracer=tracer, max_rollouts=max_rollouts
        )
        self.runner: LitAgentRunner[Any] = self._make_runner()
        self.tracer: Tracer = self.runner.tracer
        self.max_rollouts: int | None = self.runner.max_rollouts
        for name, given, kept in (("tracer", tracer, self.tracer), ("max_rollouts", max_rollouts, self.max_rollouts)):
            if given is not None and given is not kept:
                raise TrainerError(
                    f"{name} is {given!r}, but the runner that is given has {kept!r}: give it there alone"
                )

    def _agent_for_runners(self, agent: Any) -> "LitAgent[Any] | None":
        """The agent; None where none is given and no runner needs one."""
        is_needed = needs_agent(self.strategy, self.n_runners)
        if agent is None and not is_needed:
            return None
        if isinstance(agent, list) and not is_needed:
            raise TrainerError(f"agent is a list of {len(agent)}: where there is none, name it, fit(train_dataset=...)")
        taken = agent_of(agent, f"the runners (n_runners={self.n_runners}, strategy={self.strategy!r}) run it")
        taken.set_trainer(self)
        return taken

    def _adapter_for(self, agent: "LitAgent[Any] | None") -> "TraceAdapter[Any]":
        """The adapter, narrowed to the agents that the agent says are trained."""
        if agent is None or agent.trained_agents is None:
            return self.adapter
        if not hasattr(self.adapter, "agent_match"):
            name = type(self.adapter).__name__
            _log.warning("trained_agents has no effect and can go: %s takes the calls of all agents.", name)
            return self.adapter
        narrowed = copy.copy(self.adapter)
        narrowed.agent_match = either(
            "the adapter's agent_match", self.adapter.agent_match, "trained_agents of the agent", agent.trained_agents
        )
        return narrowed


def _say_without_effect(daemon: bool | None, dev: bool) -> None:
    if daemon is not None:
        _log.warning("daemon has no effect and can go: no runner outlives its trainer.")
    if dev:
        _log.warning("dev has no effect and can go: to try an agent, call the method dev(agent, tasks).")
