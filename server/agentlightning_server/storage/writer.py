"""Group commit: operations of many callers in one transaction, one sync to disk for all. Knows no operation."""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import aiosqlite

from agentlightning_server.clock import Clock
from agentlightning_server.errors import draining, unavailable
from agentlightning_server.storage.transaction import Notices, Reading, Transaction, keep_counts

T = TypeVar("T")
Operation = Callable[[Transaction], Any]

_log = logging.getLogger(__name__)
_BATCH = 512


async def run_on_thread(connection: aiosqlite.Connection, function: Callable[..., T], *args: Any) -> T:
    """Run a function with the raw connection, whole, on the connection's own thread.

    aiosqlite has no public name for this; the version is bounded in pyproject.toml and a test holds it.
    """
    result: T = await connection._execute(function, connection._conn, *args)  # type: ignore[no-untyped-call]
    return result


class Writer:
    """Takes operations one by one and commits them together.

    A batch forms by itself while the one before is being synced: no timer, no delay for a lone caller. What is to be
    done between two commits is awaited there.
    """

    def __init__(
        self,
        connection: aiosqlite.Connection,
        clock: Clock,
        on_commit: Callable[[Notices], None],
        between: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._on_commit = on_commit
        self._between = between
        self._pending: asyncio.Queue[tuple[Operation, asyncio.Future[Any]] | None] = asyncio.Queue()
        self._stopping = False

    def start(self) -> None:
        """Begin to commit."""
        self._task = asyncio.create_task(self._commit_for_ever(), name="writer")

    async def stop(self) -> None:
        """Commit what was submitted, then end."""
        self._stopping = True
        self._pending.put_nowait(None)
        await self._task

    async def submit(self, operation: Callable[[Transaction], T]) -> T:
        """Have an operation committed. A cancelled caller does not hear of its outcome; it is done all the same."""
        return await self.post(operation)

    def post(self, operation: Callable[[Transaction], T]) -> "asyncio.Future[T]":
        """Have an operation committed after all that were posted before; nobody needs to wait for its outcome.

        Raises:
            StoreError: The server stops.
        """
        if self._stopping:
            raise draining()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_retrieve)
        self._pending.put_nowait((operation, future))
        return future

    async def _commit_for_ever(self) -> None:
        while (first := await self._pending.get()) is not None:
            batch = [first]
            stop = False
            while len(batch) < _BATCH and not self._pending.empty():
                if (entry := self._pending.get_nowait()) is None:
                    stop = True
                    break
                batch.append(entry)
            await self._commit(batch)
            if self._between is not None:
                await self._between()
            if stop:
                return

    async def _commit(self, batch: list[tuple[Operation, asyncio.Future[Any]]]) -> None:
        operations = [operation for operation, _ in batch]
        try:
            outcomes, notices = await run_on_thread(self._connection, _run_batch, operations, self._clock())
        except sqlite3.Error as error:
            _log.error("a commit failed and was rolled back: %s", error)
            outcomes, notices = [unavailable(str(error)) for _ in batch], Notices()
        # Waiters hear of the commit before its callers can ask about it.
        self._on_commit(notices)
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if future.cancelled():  # nobody waits any more
                continue
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)


def _run_batch(
    connection: sqlite3.Connection, operations: list[Operation], now: int
) -> tuple[list[Any | BaseException], Notices]:
    notices = Notices()
    connection.execute("BEGIN IMMEDIATE")
    try:
        revision = Reading(connection, now).revision()
        outcomes = [
            _run_one(connection, operation, Transaction(connection, now, notices.revision or revision), notices)
            for operation in operations
        ]
        keep_counts(connection, notices)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return outcomes, notices


def _run_one(
    connection: sqlite3.Connection, operation: Operation, transaction: Transaction, notices: Notices
) -> Any | BaseException:
    """Run one operation in a savepoint, so that one which refuses or fails takes nothing else with it."""
    connection.execute("SAVEPOINT operation")
    try:
        result = operation(transaction)
    except sqlite3.OperationalError:
        raise  # the disk, not the operation: nothing of this batch can be kept
    except Exception as error:
        return _undone(connection, error)
    connection.execute("RELEASE operation")
    notices.add(transaction.notices)
    return result


def _undone(connection: sqlite3.Connection, error: Exception) -> Exception:
    connection.execute("ROLLBACK TO operation")
    connection.execute("RELEASE operation")
    if isinstance(error, StopIteration):  # which no future can hold
        return RuntimeError(f"the operation raised {error!r}")
    return error


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Look at the outcome, so that a caller who went away leaves no warning of an exception never seen."""
    if not future.cancelled():
        future.exception()
