"""The write-ahead log of a database: begun anew before it is large, though somebody always reads."""

import logging
import sqlite3
from pathlib import Path

import aiosqlite

from agentlightning_server.storage.writer import run_on_thread

WAL_LIMIT = 64 << 20
"""Bytes."""
_PATIENCE = 500
"""Milliseconds for which commits wait for those who read."""

_log = logging.getLogger(__name__)


class Wal:
    """Watches the size of a log.

    SQLite writes the log back into the database as it goes, but begins it anew only at a moment at which nobody reads
    from it, and with reads that overlap there may be none. So, once the log is large, the writer waits a little for
    the reads that are under way; those that come meanwhile do not need the log.
    """

    def __init__(self, database: Path, connection: aiosqlite.Connection) -> None:
        self._file = database.with_name(database.name + "-wal")
        self._connection = connection
        self._allowed = WAL_LIMIT

    async def keep_short(self) -> None:
        """Begin the log anew if it is large; between commits."""
        try:
            size = self._file.stat().st_size
        except FileNotFoundError:
            return
        if size > self._allowed:
            done = await self._checkpoint("TRUNCATE", _PATIENCE)
            # Whoever reads for long is not waited for after each commit.
            self._allowed = WAL_LIMIT if done else size + WAL_LIMIT

    async def write_back(self) -> None:
        """Write into the database what nobody reads from the log any more: only this makes the file smaller."""
        await self._checkpoint("PASSIVE", 0)

    async def _checkpoint(self, mode: str, patience: int) -> bool:
        try:
            return await run_on_thread(self._connection, _checkpoint, mode, patience)
        except sqlite3.Error as error:
            _log.error("the write-ahead log cannot be written back: %s", error)
            return False


def _checkpoint(connection: sqlite3.Connection, mode: str, patience: int) -> bool:
    before = connection.execute("PRAGMA busy_timeout").fetchone()[0]
    connection.execute(f"PRAGMA busy_timeout = {patience}")
    try:
        return not connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()[0]
    finally:
        connection.execute(f"PRAGMA busy_timeout = {before}")
