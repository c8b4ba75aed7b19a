"""Brings storage, queues, waits, watches and deadlines together: every write, every read, and every call that waits."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from agentlightning.v1.rollout_pb2 import Assignment
from agentlightning.v1.store_service_pb2 import (
    AttemptRef,
    DeleteRolloutsRequest,
    DeleteRolloutsResponse,
    DequeueRolloutsRequest,
    ReleaseAttemptsRequest,
    StreamDequeueRequest,
    WaitRolloutsResponse,
    WatchResponse,
)

from agentlightning_server.clock import Clock
from agentlightning_server.config import Keep
from agentlightning_server.dispatch.deadlines import Deadlines, Due
from agentlightning_server.dispatch.queues import Queues
from agentlightning_server.dispatch.rates import Rates
from agentlightning_server.dispatch.retention import Retention
from agentlightning_server.dispatch.streams import Streams, WorkStream
from agentlightning_server.dispatch.waits import Wait, Waits
from agentlightning_server.dispatch.watches import Watches
from agentlightning_server.errors import StoreError, draining
from agentlightning_server.storage import attempts, changes, endings, requests, rollouts
from agentlightning_server.storage.database import Database, cannot_open
from agentlightning_server.storage.transaction import Notices, Reading, Transaction

T = TypeVar("T")

_UNTOLD_REVISIONS = 1000
"""How far a watch may come without saying so while nothing it sends has changed."""


class Dispatcher:
    """The running store behind the services.

    Attributes:
        database: Where everything is kept.
        rates: How often things happen.
        retention: What is deleted of it.
    """

    def __init__(self, path: Path, clock: Clock, keep: Keep) -> None:
        self.database = Database(path, clock, self._on_commit)
        self.retention = Retention(self.database, keep)
        self._queues = Queues()
        self._streams = Streams(self._queues, self.write, self.read, self._give_back)
        self._waits = Waits()
        self._watches = Watches()
        self._deadlines = Deadlines(clock, self._expire)
        self.rates = Rates(clock)
        self._draining = False

    @classmethod
    @asynccontextmanager
    async def running(cls, path: Path, clock: Clock, keep: Keep) -> AsyncIterator[Self]:
        """Open the database, give every lease one fresh duration, and dispatch while the block runs."""
        dispatcher = cls(path, clock, keep)
        async with dispatcher.database:
            try:
                await dispatcher.database.write(attempts.resume)
            except StoreError as error:
                raise cannot_open(path, error.metadata.get("cause", error)) from error
            timers = [
                asyncio.create_task(dispatcher._deadlines.fire_for_ever(), name="deadlines"),
                asyncio.create_task(dispatcher.retention.sweep_for_ever(), name="retention"),
            ]
            try:
                yield dispatcher
            finally:
                dispatcher.drain()
                for timer in timers:
                    timer.cancel()
                await asyncio.gather(*timers, return_exceptions=True)

    def drain(self) -> None:
        """Answer everybody who waits: the server is going."""
        self._draining = True
        self._queues.wake_all()
        self._streams.go_away()
        self._waits.wake_all()
        self._watches.wake_all()

    async def write(self, operation: Callable[[Transaction], T]) -> T:
        """Run an operation that changes the store; on disk when it returns."""
        await self._deadlines.settle()
        return await self.database.write(operation)

    async def read(self, operation: Callable[[Reading], T]) -> T:
        """Run an operation that only looks. Where the disk takes no write, it sees deadlines that have passed."""
        with suppress(StoreError):
            await self._deadlines.settle()
        return await self.database.read(operation)

    async def delete(self, request: DeleteRolloutsRequest) -> DeleteRolloutsResponse:
        """Delete terminal rollouts; see DeleteRollouts."""
        await self._deadlines.settle()
        return await self.retention.delete(request)

    async def dequeue(
        self, request: DequeueRolloutsRequest, *, limit: int, lease_duration: int, wait_seconds: float
    ) -> list[Assignment]:
        """Claim rollouts, waiting for the first; empty when there was none in time or the server is going."""
        queue, workers = request.queue or rollouts.DEFAULT_QUEUE, request.worker_ids or [request.worker_id]
        claimed: list[Assignment] = []

        def claim(tx: Transaction) -> list[Assignment] | None:
            """None: nothing there yet. A repeat is answered with what is left of its first answer, if only nothing."""
            known = requests.recall(tx, request.request_id, request, ReleaseAttemptsRequest)
            if known is not None:
                return rollouts.still_leased(tx, known.attempts)
            claimed[:] = rollouts.claim(tx, queue, workers, limit, lease_duration)
            if claimed:  # whose tasks, which may be large, need not be kept twice
                requests.remember(tx, request.request_id, request, ReleaseAttemptsRequest(attempts=_refs(claimed)))
            return claimed or None

        if self._draining:
            raise draining()
        deadline = asyncio.get_running_loop().time() + wait_seconds
        woken = False
        while not self._draining:
            # In line before looking, so that what comes in between wakes this caller.
            with self._queues.waiter(queue) as waiter:
                try:
                    assignments = await self.write(claim)
                except BaseException:
                    # The caller is gone, or the disk is full. What is claimed all the same is for others to do.
                    self._give_back(claimed)
                    self._queues.wake({queue: woken})
                    raise
                if assignments is not None:
                    return assignments
                if not (woken := await waiter.wait_until(deadline)):
                    break
        return []

    def stream(self, opening: StreamDequeueRequest.Open, lease_duration: int) -> AbstractContextManager[WorkStream]:
        """A worker's stream while the block runs; see StreamDequeue.

        Raises:
            StoreError: The server is going.
        """
        if self._draining:
            raise draining()
        return self._streams.stream(opening, lease_duration)

    async def wait(
        self, rollout_ids: Iterable[str], *, any_of: bool, after_revision: int, wait_seconds: float | None
    ) -> AsyncGenerator[WaitRolloutsResponse, None]:
        """Each of the rollouts once it is terminal; see WaitRollouts."""
        deadline = None if wait_seconds is None else asyncio.get_running_loop().time() + wait_seconds
        pending = dict.fromkeys(rollout_ids)
        with self._waits.wait_for(pending) as wait:
            ids, reached = list(pending), None
            while True:
                look = await self.read(partial(endings.look, rollout_ids=ids, after=after_revision, reached=reached))
                for rollout_id in look.settled:
                    del pending[rollout_id]
                look.message.pending_count = len(pending)
                if reached is None or look.message.rollouts or look.message.unknown_rollout_ids:
                    yield look.message
                if not pending or (any_of and look.message.rollouts):
                    return
                if not (ids := look.left or await self._ended(wait, pending, deadline)):
                    return
                reached = look.reached if look.left else max(look.reached, wait.revision)

    async def watch(self, after_revision: int, *, run_id: str, queue: str) -> AsyncGenerator[WatchResponse, None]:
        """What changed after a revision, then what changes; see Watch."""
        with self._watches.watcher() as changed:
            begun = await self.read(partial(changes.begin, after=after_revision))
            reached, told = after_revision, -_UNTOLD_REVISIONS
            while not self._draining:
                changed.clear()
                message, more = await self.read(
                    partial(changes.since, after=reached, begun=begun, run_id=run_id, queue=queue)
                )
                reached = message.revision
                if message.changes or reached - told >= _UNTOLD_REVISIONS:
                    told = reached
                    yield message
                if not more:
                    await changed.wait()
            raise draining()

    async def _ended(self, wait: Wait, pending: Collection[str], deadline: float | None) -> list[str]:
        """Those of the pending rollouts that have ended meanwhile, waited for; none when the time is up."""
        while not self._draining:
            try:
                async with asyncio.timeout_at(deadline):
                    told = await wait.next()
            except TimeoutError:
                return []
            if ended := [rollout_id for rollout_id in told if rollout_id in pending]:
                return ended
        raise draining()

    def _on_commit(self, notices: Notices) -> None:
        for act in notices.on_disk:
            act()
        self._deadlines.add(notices.deadlines)
        self._queues.wake(notices.queued)
        self._waits.tell(notices.ended, notices.revision)
        if notices.revision:
            self._watches.wake_all()
        self._streams.tell(notices)
        self.rates.add(notices.events)

    def _give_back(self, claimed: Sequence[Assignment]) -> None:
        """Release what nobody was told of, after whatever is claiming it now; it costs no attempt."""

        def release(tx: Transaction) -> None:
            for ref in _refs(claimed):
                attempts.release(tx, ref)

        self.database.post(release)

    async def _expire(self, due: list[Due]) -> None:
        def expire(tx: Transaction) -> None:
            for _, rollout_id, attempt_id in due:
                attempts.expire(tx, rollout_id, attempt_id)

        await self.database.write(expire)


def _refs(claimed: Iterable[Assignment]) -> list[AttemptRef]:
    attempts_ = (assignment.attempt for assignment in claimed)
    return [AttemptRef(rollout_id=attempt.rollout_id, attempt_id=attempt.attempt_id) for attempt in attempts_]
