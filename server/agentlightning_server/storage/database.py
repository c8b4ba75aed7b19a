"""The database file: whose it is, its connections, its schema's version. One connection writes, the others read."""

import asyncio
import contextlib
import fcntl
import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import aiosqlite

from agentlightning_server.clock import Clock
from agentlightning_server.errors import StoreError
from agentlightning_server.storage.backup import Backups
from agentlightning_server.storage.queries import migrations
from agentlightning_server.storage.transaction import Notices, Reading, Transaction
from agentlightning_server.storage.wal import WAL_LIMIT, Wal
from agentlightning_server.storage.writer import Writer, run_on_thread

T = TypeVar("T")

APPLICATION_ID = 0x41474C53
"""`AGLS` in the file's header: a store of ours."""

_READERS = 2
_WRITER_PRAGMAS = (
    "PRAGMA auto_vacuum = INCREMENTAL",  # before anything else makes the file
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA mmap_size = 0",
    "PRAGMA wal_autocheckpoint = 4000",  # pages: what changes all the time is written back once for many commits
    f"PRAGMA journal_size_limit = {WAL_LIMIT}",
    "PRAGMA trusted_schema = OFF",
)
_READER_PRAGMAS = ("PRAGMA query_only = ON", "PRAGMA mmap_size = 0", "PRAGMA trusted_schema = OFF")


class DatabaseError(Exception):
    """The database cannot be opened: held by another server, made by a newer one or another program, or none at all."""


def cannot_open(path: Path, why: object) -> DatabaseError:
    """The disk, or what is on it, does not let a server begin."""
    return DatabaseError(f"cannot open the database {str(path)!r}: {why}")


class Database:
    """An open database: `write` commits operations in groups, `read` sees the last commit and never waits for a write.

    Attributes:
        path: The file.
        durability: How it is kept, in words.
    """

    def __init__(self, path: Path, clock: Clock, on_commit: Callable[[Notices], None]) -> None:
        self.path = path
        # Not read-only, though it only reads: SQLite 3.40 then miscounts the columns of tables with generated ones.
        self._backups = Backups(path, lambda: _connect(path, ("PRAGMA mmap_size = 0",), mode="rw"))
        self._clock = clock
        self._lock = FileLock(path.with_name(path.name + ".lock"))
        self._on_commit = on_commit
        self._readers: asyncio.Queue[aiosqlite.Connection] = asyncio.Queue()
        self.durability = f"SQLite {sqlite3.sqlite_version}, WAL, synchronous=FULL"

    async def __aenter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            if self.path.exists() and not os.access(self.path, os.W_OK):  # which SQLite would open without a word
                raise cannot_open(self.path, "it is read-only")
            self._backups.remove_unfinished()
            self._connection = await _connect(self.path, ())
            await run_on_thread(self._connection, _prepare, self.path)
            for _ in range(_READERS):
                self._readers.put_nowait(await _connect(self.path, _READER_PRAGMAS, mode="ro"))
        except BaseException as error:
            await self._close_connections()
            if isinstance(error, (OSError, sqlite3.Error)):
                raise cannot_open(self.path, error) from error
            raise
        self._wal = Wal(self.path, self._connection)
        self._writer = Writer(self._connection, self._clock, self._on_commit, self._keep_wal_short)
        self._writer.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._writer.stop()
        await self._backups.finish()
        await self._close_connections()

    async def _close_connections(self) -> None:
        while not self._readers.empty():
            await self._readers.get_nowait().close()
        if hasattr(self, "_connection"):
            await self._connection.close()
        self._lock.release()

    async def write(self, operation: Callable[[Transaction], T]) -> T:
        """Run an operation in the next group commit; return only when it is on disk.

        Cancelling the caller does not cancel the operation: its outcome is then unknown to the caller.

        Raises:
            StoreError: What the operation refused, or that the disk does not take the write.
        """
        return await self._writer.submit(operation)

    def post(self, operation: Callable[[Transaction], object]) -> None:
        """Have an operation run after all that were asked for before, for nobody who waits.

        A server that stops does nothing any more; one that starts again looks after every lease.
        """
        with contextlib.suppress(StoreError):
            self._writer.post(operation)

    async def read(self, operation: Callable[[Reading], T]) -> T:
        """Run an operation on a consistent view of the last commit."""
        connection = await self._readers.get()
        try:
            return await asyncio.shield(run_on_thread(connection, _read, operation, self._clock()))
        finally:
            self._readers.put_nowait(connection)

    async def _keep_wal_short(self) -> None:
        if not self._backups.is_writing:  # which reads from the log until it ends
            await self._wal.keep_short()

    async def backup(self, name: str) -> Path:
        """Write a copy of what is committed into the database's folder; see `Backups.write`."""
        return await self._backups.write(name, self._clock())

    async def shrink(self) -> None:
        """Let the file be as small as the pages in use, as far as nobody reads from the write-ahead log."""
        await self._wal.write_back()

    async def vacuum(self) -> None:
        """Write the whole file anew, compact and in order; no operation runs meanwhile.

        Raises:
            DatabaseError: There is no room for it.
        """
        try:
            await run_on_thread(self._connection, _vacuum)
        except sqlite3.Error as error:
            raise DatabaseError(
                f"cannot vacuum the database {str(self.path)!r}: {error}; it takes twice its size of free space: make "
                "room, or serve it as it is"
            ) from error

    def announce(self, **facts: object) -> None:
        """Tell whoever finds the file held (another server, a client looking for this one) who holds it."""
        self._lock.write(facts)


class FileLock:
    """The one right to serve a database, held by an open file: it goes with the process, however that ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            DatabaseError: Another process holds it; the message says which.
        """
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(os.pread(file, 4096, 0))
            os.close(file)
            raise DatabaseError(
                f"the database {str(self.path.with_suffix(''))!r} is served already, {holder}: connect to that "
                "server, stop it, or give another file with --db"
            ) from None
        self._file = file
        self.write({"pid": os.getpid()})

    def write(self, facts: dict[str, Any]) -> None:
        """Say who holds the lock, in the place of what was said before: that is there also on a full disk."""
        if self._file is not None:
            text = json.dumps(facts).encode() + b"\n"
            os.pwrite(self._file, text, 0)
            os.ftruncate(self._file, len(text))

    def release(self) -> None:
        """Let go."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None


def _holder(facts: bytes) -> str:
    try:
        known = json.loads(facts)
    except ValueError:
        known = {}
    return f"at {known.get('address', 'an address not known yet')} by process {known.get('pid', 'unknown')}"


async def _connect(path: Path, pragmas: tuple[str, ...], mode: str = "rwc") -> aiosqlite.Connection:
    connection = aiosqlite.connect(f"file:{quote(str(path))}?mode={mode}", uri=True, isolation_level=None)
    try:
        await connection
        for pragma in pragmas:
            await connection.execute_fetchall(pragma)
    except sqlite3.Error as error:
        await connection.close()
        # One that never opened does not wait for its thread, which would keep this process from ending.
        await asyncio.to_thread(connection._thread.join)
        raise cannot_open(path, error) from error
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    try:
        _refuse_others(connection, path)
        for pragma in _WRITER_PRAGMAS:
            connection.execute(pragma).fetchall()
        _migrate(connection)
    except sqlite3.Error as error:
        raise cannot_open(path, error) from error


def _refuse_others(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that is not ours to write, before anything is written to it."""
    maker, version = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    is_empty = connection.execute("PRAGMA schema_version").fetchone()[0] == 0
    if maker != APPLICATION_ID and not (is_empty and maker == version == 0):
        raise DatabaseError(
            f"the database {str(path)!r} is no store: another program made it; give another file with --db"
        )
    if version > len(migrations()):
        raise DatabaseError(
            f"the database {str(path)!r} has schema version {version}, this server knows {len(migrations())}: "
            "it was written by a newer one; use that, or another file"
        )


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema to the newest version, each step in a transaction: a kill leaves the file before or after it."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    for number, script in enumerate(migrations()[version:], start=version + 1):
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number}"
        # executescript commits what is open, so the script opens and commits its own transaction.
        connection.executescript(f"BEGIN IMMEDIATE; {script}; {marks}; COMMIT;")


def _vacuum(connection: sqlite3.Connection) -> None:
    connection.execute("VACUUM")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _read(connection: sqlite3.Connection, operation: Callable[[Reading], T], now: int) -> T:
    connection.execute("BEGIN")
    try:
        return operation(Reading(connection, now))
    finally:
        connection.execute("ROLLBACK")
