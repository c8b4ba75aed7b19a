"""What users run: an agent for the rollouts of a store, or for one task. Knows workers and their loop, no algorithm."""

import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic

from typing_extensions import TypeVar

from agentlightning import logs
from agentlightning.errors import AgentError
from agentlightning.litagent import LitAgent, as_agent
from agentlightning.runner.hold import Hold
from agentlightning.runner.hooks import Hook, Hooks, as_hooks
from agentlightning.runner.interrupt import first_interrupt
from agentlightning.runner.loop import StopEvent, WorkLoop
from agentlightning.runner.worker import Worker
from agentlightning.store.base import LightningStore
from agentlightning.tracer import Tracer
from agentlightning.types import Rollout, RolloutMode

_log = logging.getLogger(__name__)

T = TypeVar("T", default=Any)


@dataclass(frozen=True)
class _Context:
    agent: LitAgent[Any]
    store: LightningStore
    worker: Worker
    worker_id: str


class LitAgentRunner(Generic[T]):
    """Runs an agent for the rollouts of a store.

    Args:
        tracer: What records the agent's work. None: a new `Tracer`.
        max_rollouts: How many rollouts `iter` runs. None: any number.
        max_concurrency: How many of them run at once; agents that are not async run in threads.
        poll_interval: Taken from existing code and without effect: the store hands out work as it comes.
        heartbeat_interval: Likewise: leases are renewed at a third of their length.

    Attributes:
        tracer: What records the agent's work.
        max_rollouts: As it was given.
        max_concurrency: As it was given; what it is when `iter` begins counts.

    Raises:
        ValueError: When `max_concurrency` is less than 1.

    Example:
        >>> import asyncio
        >>> import agentlightning as agl
        >>> runner = agl.LitAgentRunner[str](max_concurrency=8)
        >>> with runner.run_context(agent=lambda task: 1.0, store=agl.LightningStoreClient(address)):
        ...     rollout = asyncio.run(runner.step("Why?"))
        >>> rollout.status
        'succeeded'
    """

    def __init__(
        self,
        tracer: Tracer | None = None,
        max_rollouts: int | None = None,
        *,
        max_concurrency: int = 1,
        poll_interval: float | None = None,
        heartbeat_interval: float | None = None,
    ) -> None:
        if max_concurrency < 1:
            raise ValueError(f"max_concurrency is {max_concurrency!r}, expected at least 1")
        if poll_interval is not None or heartbeat_interval is not None:
            _log.warning("poll_interval and heartbeat_interval have no effect and can go: the store pushes work.")
        self.tracer = tracer or Tracer()
        self.max_rollouts = max_rollouts
        self.max_concurrency = max_concurrency
        self._context: _Context | None = None

    @contextmanager
    def run_context(
        self,
        *,
        agent: object,
        store: LightningStore,
        hooks: Hook | Sequence[Hook] | None = None,
        worker_id: int | str | None = None,
        worker_scope: str = "",
    ) -> "Iterator[LitAgentRunner[T]]":
        """Make the runner ready for an agent and a store. The store stays open.

        Args:
            agent: A `LitAgent` or a function.
            store: Where the rollouts come from.
            hooks: What is done around each rollout: one hook, or several in this order.
            worker_id: The worker's name in the store; `Worker-<n>` for a number. None: the host's name and the process.
            worker_scope: What tells a number from those of others who use the store: `Worker-<n>-<scope>`. The log
                names the number alone.

        Raises:
            AgentError: When the agent is neither, or a hook is no `Hook`.
        """
        number = 0 if worker_id is None else worker_id
        agent = as_agent(agent)
        agent.set_runner(self)
        worker = Worker(f"Worker {number}", agent, store, self.tracer, Hooks(as_hooks(hooks), agent, self))
        self._context = _Context(agent, store, worker, _worker_name(worker_id, worker_scope))
        with logs.shown():
            self.tracer.init_worker(number, store)
            try:
                yield self
            finally:
                self._context = None
                self.tracer.teardown_worker(number)
                worker.close()

    async def iter(self, *, event: StopEvent | None = None) -> None:
        """Run rollouts as they come, until `max_rollouts` were run.

        Cancelling it ends the rollouts in progress, and they are delivered again. Where it is awaited by the main task
        of `asyncio.run`, the first Ctrl-C lets the rollouts in progress finish and takes no more, and the second
        cancels it.

        Args:
            event: Once it is set, rollouts in progress are finished and no more are taken. One that cannot be waited
                for is asked every second.

        Raises:
            StoreUnavailableError: When the store cannot be reached for as long as its client tries.
        """
        context = self._ready()
        name = context.worker.name
        loop = WorkLoop(context.worker, context.store, context.worker_id, event)
        try:
            with first_interrupt(loop.drain):
                _log.info("[%s] Started async rollouts (max: %s).", name, self.max_rollouts or "unlimited")
                await loop.run(max_rollouts=self.max_rollouts, max_concurrency=self.max_concurrency)
        finally:
            _log.info("[%s] Finished async rollouts. Processed %d tasks.", name, loop.processed)

    async def step(
        self,
        task: T,
        *,
        resources: Mapping[str, Any] | None = None,
        mode: RolloutMode | None = None,
        event: StopEvent | None = None,
    ) -> Rollout:
        """Run one task now, past the queue.

        Args:
            task: The task.
            resources: What to give the agent; written to the store first. None: the latest.
            mode: What the rollout is for.
            event: As for `iter`, where it lets a rollout in progress finish: here it changes nothing.

        Returns:
            The rollout as the store has it afterwards.

        Raises:
            Exception: What the agent raised, after the attempt has failed.
            StoreError: When the store refuses a call.
        """
        context = self._ready()
        store = context.store
        resources_id = None if resources is None else (await store.add_resources(resources)).resources_id
        rollout = await store.start_rollout(task, mode, resources_id, worker_id=context.worker_id)
        if error := await context.worker.attempt(rollout, Hold()):
            raise error
        return await store.get_rollout_by_id(rollout.rollout_id) or rollout

    def get_agent(self) -> LitAgent[Any]:
        """The agent of the `run_context`."""
        return self._ready().agent

    def get_store(self) -> LightningStore:
        """The store of the `run_context`."""
        return self._ready().store

    def get_worker_id(self) -> str:
        """The worker's name in the store."""
        return self._ready().worker_id

    def _ready(self) -> _Context:
        if self._context is None:
            raise AgentError("the runner has no agent and no store: use it inside `with runner.run_context(...):`")
        return self._context


def _worker_name(worker_id: int | str | None, scope: str) -> str:
    match worker_id:
        case None:
            return f"{socket.gethostname()}-{os.getpid()}"
        case int():
            return f"Worker-{worker_id}-{scope}" if scope else f"Worker-{worker_id}"
        case name:
            return name
