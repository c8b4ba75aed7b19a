"""What users run: an agent for the rollouts of a store, or for one task. Knows workers and their loop, no algorithm."""

import asyncio
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic

from typing_extensions import TypeVar

from agentlightning.errors import AgentError
from agentlightning.litagent import as_agent
from agentlightning.runner.loop import StopEvent, WorkLoop
from agentlightning.runner.worker import Worker
from agentlightning.store.base import LightningStore
from agentlightning.tracer import Tracer
from agentlightning.types import Rollout, RolloutMode

_log = logging.getLogger(__name__)

T = TypeVar("T", default=Any)


class LitAgentRunner(Generic[T]):
    """Runs an agent for the rollouts of a store.

    Args:
        tracer: What records the agent's work. None: a new `Tracer`.
        max_rollouts: How many rollouts `iter` runs. None: any number.
        concurrency: How many of them run at once.
    """

    def __init__(self, tracer: Tracer | None = None, max_rollouts: int | None = None, concurrency: int = 1) -> None:
        self.tracer = tracer or Tracer()
        self._max_rollouts = max_rollouts
        self._concurrency = concurrency
        self._context: tuple[Worker, LightningStore, str] | None = None

    @contextmanager
    def run_context(
        self, *, agent: object, store: LightningStore, worker_id: int | str | None = None
    ) -> "Iterator[LitAgentRunner[T]]":
        """Make the runner ready for an agent and a store. The store stays open.

        Args:
            agent: A `LitAgent` or a function.
            store: Where the rollouts come from.
            worker_id: The worker's name in the store; `Worker-<n>` for a number. None: the host's name and the process.

        Raises:
            AgentError: When the agent is neither.
        """
        number = 0 if worker_id is None else worker_id
        worker = Worker(f"Worker {number}", as_agent(agent), store, self.tracer)
        self._context = worker, store, _worker_name(worker_id)
        self.tracer.init_worker(number, store)
        try:
            yield self
        finally:
            self._context = None
            self.tracer.teardown_worker(number)
            worker.close()

    async def iter(self, *, event: StopEvent | None = None) -> None:
        """Run rollouts as they come, until `max_rollouts` were run.

        Cancelling it ends the rollouts in progress, and they are delivered again.

        Args:
            event: Once it is set, rollouts in progress are finished and no more are taken. One that cannot be waited
                for is asked every second.

        Raises:
            StoreUnavailableError: When the store cannot be reached for as long as its client tries.
        """
        worker, store, worker_id = self._ready()
        _log.info("[%s] Started async rollouts (max: %s).", worker.name, self._max_rollouts or "unlimited")
        loop = WorkLoop(worker, store, worker_id, event)
        try:
            await loop.run(max_rollouts=self._max_rollouts, concurrency=self._concurrency)
        finally:
            _log.info("[%s] Finished async rollouts. Processed %d tasks.", worker.name, loop.processed)

    async def step(
        self, task: T, *, resources: Mapping[str, Any] | None = None, mode: RolloutMode | None = None
    ) -> Rollout:
        """Run one task now, past the queue.

        Args:
            task: The task.
            resources: What to give the agent; written to the store first. None: the latest.
            mode: What the rollout is for.

        Returns:
            The rollout as the store has it afterwards.

        Raises:
            Exception: What the agent raised, after the attempt has failed.
            StoreError: When the store refuses a call.
        """
        worker, store, worker_id = self._ready()
        resources_id = None if resources is None else (await store.add_resources(resources)).resources_id
        rollout = await store.start_rollout(task, mode, resources_id, worker_id=worker_id)
        if error := await worker.attempt(rollout, asyncio.get_running_loop().create_future()):
            raise error
        return await store.get_rollout_by_id(rollout.rollout_id) or rollout

    def _ready(self) -> tuple[Worker, LightningStore, str]:
        if self._context is None:
            raise AgentError("the runner has no agent and no store: use it inside `with runner.run_context(...):`")
        return self._context


def _worker_name(worker_id: int | str | None) -> str:
    match worker_id:
        case None:
            return f"{socket.gethostname()}-{os.getpid()}"
        case int():
            return f"Worker-{worker_id}"
        case name:
            return name
