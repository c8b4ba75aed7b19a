"""Brings storage, queues, waits and deadlines together: every write, every read, and every call that waits."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Self, TypeVar

from agentlightning.v1.rollout_pb2 import Assignment, Rollout
from agentlightning.v1.store_service_pb2 import (
    DeleteRolloutsRequest,
    DeleteRolloutsResponse,
    DequeueRolloutsRequest,
    DequeueRolloutsResponse,
    WaitRolloutsResponse,
)

from agentlightning_server.clock import Clock
from agentlightning_server.config import Keep
from agentlightning_server.dispatch.deadlines import Deadlines, Due
from agentlightning_server.dispatch.queues import Queues
from agentlightning_server.dispatch.rates import Rates
from agentlightning_server.dispatch.retention import Retention
from agentlightning_server.dispatch.waits import Waits
from agentlightning_server.errors import StoreError, draining
from agentlightning_server.storage import attempts, requests, rollouts
from agentlightning_server.storage.database import Database, cannot_open
from agentlightning_server.storage.rows import rollout_status
from agentlightning_server.storage.transaction import Notices, Reading, Transaction

T = TypeVar("T")

_ROLLOUTS_PER_MESSAGE = 50
_BYTES_PER_MESSAGE = 2 << 20


@dataclass(frozen=True, slots=True)
class _Found:
    known: Collection[str]
    terminal: list[Rollout]
    revision: int


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
        self._waits = Waits()
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
        self._waits.wake_all()

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
        queue = request.queue or rollouts.DEFAULT_QUEUE

        def claim(tx: Transaction) -> list[Assignment] | None:
            """None: nothing there yet. A repeat is answered with what is left of its first answer, if only nothing."""
            known = requests.recall(tx, request.request_id, request, DequeueRolloutsResponse)
            if known is not None:
                return rollouts.still_leased(tx, known.assignments)
            claimed = rollouts.claim(tx, queue, request.worker_id, limit, lease_duration)
            if claimed:
                requests.remember(tx, request.request_id, request, DequeueRolloutsResponse(assignments=claimed))
            return claimed or None

        if self._draining:
            raise draining()
        deadline = asyncio.get_running_loop().time() + wait_seconds
        while not self._draining:
            # In line before looking, so that what comes in between wakes this caller.
            with self._queues.waiter(queue) as waiter:
                if (assignments := await self.write(claim)) is not None:
                    return assignments
                if not await waiter.wait_until(deadline):
                    break
        return []

    async def wait(
        self, rollout_ids: list[str], *, any_of: bool, after_revision: int, wait_seconds: float | None
    ) -> AsyncIterator[WaitRolloutsResponse]:
        """Each of the rollouts once it is terminal; see WaitRollouts."""
        loop = asyncio.get_running_loop()
        deadline = None if wait_seconds is None else loop.time() + wait_seconds
        pending = dict.fromkeys(rollout_ids)
        with self._waits.wait_for(pending) as wait:
            found = await self._terminal_of(pending)
            unknown = [rollout_id for rollout_id in pending if rollout_id not in found.known]
            for rollout_id in [*unknown, *(rollout.rollout_id for rollout in found.terminal)]:
                del pending[rollout_id]
            news = [rollout for rollout in found.terminal if rollout.revision > after_revision]
            for message in _messages(news, found.revision, len(pending), unknown):
                yield message
            while pending and not (any_of and found.terminal):
                if self._draining:
                    raise draining()
                try:
                    async with asyncio.timeout_at(deadline):
                        ended = await wait.next()
                except TimeoutError:
                    return
                found = await self._terminal_of(rollout_id for rollout_id in ended if rollout_id in pending)
                deleted = [i for i in ended if i in pending and i not in found.known]
                for rollout_id in [*deleted, *(rollout.rollout_id for rollout in found.terminal)]:
                    pending.pop(rollout_id, None)
                if found.terminal or deleted:
                    for message in _messages(found.terminal, found.revision, len(pending), deleted):
                        yield message

    async def _terminal_of(self, rollout_ids: Iterable[str]) -> _Found:
        ids = list(rollout_ids)
        known, revision = await self.read(lambda tx: (rollouts.by_ids(tx, ids), tx.revision()))
        terminal = [known[i] for i in ids if i in known and rollout_status(known[i].status).is_terminal]
        return _Found(known.keys(), terminal, revision)

    def _on_commit(self, notices: Notices) -> None:
        self._deadlines.add(notices.deadlines)
        self._queues.wake(notices.queued)
        self._waits.tell(notices.ended)
        self.rates.add(notices.events)

    async def _expire(self, due: list[Due]) -> None:
        def expire(tx: Transaction) -> None:
            for _, rollout_id, attempt_id in due:
                attempts.expire(tx, rollout_id, attempt_id)

        await self.database.write(expire)


def _messages(
    terminal: list[Rollout], revision: int, pending: int, unknown: Collection[str] = ()
) -> Iterator[WaitRolloutsResponse]:
    """The rollouts in messages of a bearable size; always one, so that the caller learns what is pending."""
    batches = _batches(terminal) or [[]]
    for number, batch in enumerate(batches):
        is_last = number == len(batches) - 1
        yield WaitRolloutsResponse(
            rollouts=batch,
            revision=revision if is_last else batch[-1].revision,  # who resumes from there misses none of the next
            pending_count=pending,
            unknown_rollout_ids=unknown if number == 0 else (),
        )


def _batches(rollouts: Iterable[Rollout]) -> list[list[Rollout]]:
    """In the order of their revisions."""
    batches: list[list[Rollout]] = []
    size = 0
    for rollout in sorted(rollouts, key=attrgetter("revision")):
        size += rollout.ByteSize()
        if not batches or len(batches[-1]) == _ROLLOUTS_PER_MESSAGE or size > _BYTES_PER_MESSAGE:
            batches.append([])
            size = rollout.ByteSize()
        batches[-1].append(rollout)
    return batches
