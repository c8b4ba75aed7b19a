"""Taking rollouts from the queue, as many at once as there are slots. Knows the store's queue and when to stop."""

import asyncio
import inspect
import itertools
import logging
from collections.abc import Iterable
from typing import Final, Protocol

from agentlightning.errors import StoreError
from agentlightning.runner.execution import in_thread
from agentlightning.runner.hold import Hold
from agentlightning.runner.worker import STOP_SECONDS, Worker
from agentlightning.store.base import LightningStore
from agentlightning.types import AttemptedRollout

_log = logging.getLogger(__name__)

_WAIT_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 1.0


class StopEvent(Protocol):
    """What ends the loop: an event of asyncio, threading or multiprocessing, or whatever else can be asked."""

    def is_set(self) -> bool:
        """Whether to stop."""


class WorkLoop:
    """Feeds a worker with rollouts.

    Args:
        worker: Who runs them.
        store: Where they come from.
        worker_id: The worker's name in the store.
        event: Once set, no more are taken.
    """

    def __init__(self, worker: Worker, store: LightningStore, worker_id: str, event: StopEvent | None) -> None:
        self.processed = 0
        self._worker = worker
        self._store = store
        self._worker_id = worker_id
        self._event = event

    async def run(self, *, max_rollouts: int | None, max_concurrency: int) -> None:
        """Run rollouts until there were `max_rollouts`, or the event is set, or it is to drain."""
        tickets = itertools.count() if max_rollouts is None else iter(range(max_rollouts))
        self._stop = asyncio.create_task(self._wait_for_event())
        try:
            async with asyncio.TaskGroup() as slots:
                for _ in range(max_concurrency):
                    slots.create_task(self._work(tickets))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            self._stop.cancel()

    def drain(self) -> None:
        """Finish the rollouts in progress and take no more."""
        _log.warning("[%s] Interrupted: finishing what runs. Interrupt again to stop it.", self._worker.name)
        self._stop.cancel()

    async def _work(self, tickets: Iterable[int]) -> None:
        for _ in tickets:
            claimed = await self._claim()
            if claimed is None:
                return
            rollout, hold = claimed
            try:
                await self._worker.attempt(rollout, hold)
            except StoreError as error:
                _log.error("[%s] %s was not reported: %s", self._worker.name, rollout.rollout_id, error)
            self.processed += 1

    async def _claim(self) -> tuple[AttemptedRollout, Hold] | None:
        """The next rollout, or None when it is time to stop."""
        seconds = _WAIT_SECONDS if self._event is None or hasattr(self._event, "wait") else _LOOK_SECONDS
        while not self._is_stopped():
            hold = Hold()
            dequeue = self._store.dequeue_rollout(self._worker_id, wait_seconds=seconds, on_lost=hold.lose)
            claim = asyncio.ensure_future(dequeue)
            try:
                await asyncio.wait({claim, self._stop}, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                await self._let_go(claim)
                raise
            if self._is_stopped():
                await self._let_go(claim)
            elif rollout := claim.result():
                return rollout, hold
        return None

    async def _let_go(self, claim: "asyncio.Future[AttemptedRollout | None]") -> None:
        """Cancel a claim; what it was answered before it could be cancelled is given back, as nobody has begun it."""
        claim.cancel()
        await asyncio.wait({claim})
        if claim.cancelled() or claim.exception() or not (rollout := claim.result()):
            return
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._store.release_attempts([rollout])
        except (StoreError, TimeoutError) as refusal:
            _log.warning("[%s] %s was not given back: %s", self._worker.name, rollout.rollout_id, refusal)

    def _is_stopped(self) -> bool:
        return self._stop.done() or (self._event is not None and self._event.is_set())

    async def _wait_for_event(self) -> None:
        wait = getattr(self._event, "wait", None)
        if wait is None:
            await asyncio.get_running_loop().create_future()
        elif inspect.iscoroutinefunction(wait):
            await wait()
        else:
            await in_thread(wait)
