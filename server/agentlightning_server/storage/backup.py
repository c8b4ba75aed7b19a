"""Copies of a database that is being served: consistent, compact, and there whole or not at all."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiosqlite

from agentlightning_server.clock import SECOND
from agentlightning_server.errors import FieldInvalidError, unavailable
from agentlightning_server.storage.writer import run_on_thread

_UNFINISHED = ".unfinished"


_COMPANIONS = ("-wal", "-shm", "-journal", ".lock")


class Backups:
    """Copies of one database into its folder, one at a time: whoever asks during another waits for its end.

    A copy has a connection and a thread of its own, so neither the writer nor a reader waits for it. It reads one
    moment, from which SQLite cannot empty the write-ahead log before the copy ends: until then the log grows by what is
    written meanwhile.
    """

    def __init__(self, database: Path, connect: Callable[[], Awaitable[aiosqlite.Connection]]) -> None:
        self._database = database
        self._connect = connect
        self._turn = asyncio.Lock()

    async def write(self, name: str, now: int) -> Path:
        """Write a copy; on disk when this returns. It ends when its caller goes away.

        Args:
            name: Of the file. Empty: the database's, with the time.
            now: The time, in microseconds.

        Raises:
            StoreError: The name is taken, or the disk does not take the copy.
        """
        async with self._turn:
            target = self._database.with_name(name or self._default_name(now))
            self._check_free(target)
            connection = await self._connect()
            copying = asyncio.ensure_future(run_on_thread(connection, _copy, target, self._unfinished(target)))
            try:
                await asyncio.shield(copying)
            except FileExistsError:
                raise _taken(target) from None
            except (sqlite3.Error, OSError) as error:
                raise unavailable(f"{target.name} cannot be written: {error}") from error
            finally:
                if not copying.done():
                    await connection.interrupt()
                await asyncio.gather(copying, return_exceptions=True)
                await connection.close()
        return target

    async def finish(self) -> None:
        """Wait for the copy that is being written."""
        async with self._turn:
            pass

    @property
    def is_writing(self) -> bool:
        """Whether a copy is being written."""
        return self._turn.locked()

    def remove_unfinished(self) -> None:
        """Remove what a server that was killed has left of a copy."""
        for file in self._database.parent.iterdir():
            if file.name.startswith(self._prefix) and file.name.endswith(_UNFINISHED):
                _remove(file)

    @property
    def _prefix(self) -> str:
        return f".{self._database.name}."

    def _unfinished(self, target: Path) -> Path:
        return target.with_name(f"{self._prefix}{os.getpid()}{_UNFINISHED}")

    def _default_name(self, now: int) -> str:
        when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now // SECOND))
        return f"{self._database.stem}-{when}.db"

    def _check_free(self, target: Path) -> None:
        if target.name.endswith(_COMPANIONS):
            expected = f"a name that does not end in {', '.join(_COMPANIONS)}: such a file belongs to a database"
            raise FieldInvalidError("file_name", target.name, expected)
        if target.name == self._database.name or os.path.lexists(target):
            raise _taken(target)


def _taken(target: Path) -> FieldInvalidError:
    return FieldInvalidError("file_name", target.name, f"a name that nothing in {str(target.parent)!r} has yet")


def _copy(connection: sqlite3.Connection, target: Path, unfinished: Path) -> None:
    try:
        connection.execute("VACUUM INTO ?", (str(unfinished),))
        _sync(unfinished)
        os.link(unfinished, target)  # which, unlike a renaming, takes nobody's name
    finally:
        _remove(unfinished)
    _sync(target.parent)


def _remove(unfinished: Path) -> None:
    # The journal first: without it the file itself is still found.
    unfinished.with_name(unfinished.name + "-journal").unlink(missing_ok=True)
    unfinished.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
