"""A store that is full already: finished rollouts by SQL, each a copy of one that the server itself has written."""

import contextlib
import os
import secrets
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from systems import Cores, raw

SPANS = 10
"""How many a finished rollout has."""
_CHUNK = 1000
_STEP = 1000  # microseconds between two rollouts


class Prebuilt:
    """Builds such a store once and gives copies of it."""

    def __init__(self, parent: Path, cores: Cores) -> None:
        self._parent = parent
        self._cores = cores
        self._folders = contextlib.ExitStack()
        self._built: dict[int, Path] = {}

    def __enter__(self) -> "Prebuilt":
        return self

    def __exit__(self, *_: object) -> None:
        self._folders.close()

    def database(self, rollouts: int) -> Path:
        """A database with so many finished rollouts."""
        if rollouts not in self._built:
            folder = Path(
                self._folders.enter_context(tempfile.TemporaryDirectory(prefix="agl-prebuilt-", dir=self._parent))
            )
            # The server makes the tables, and one rollout that went through all it does.
            raw().drive(folder, "one_finished", {"spans": SPANS}, self._cores, timeout=60.0)
            database = folder / "store.db"
            fill(database, rollouts)
            self._built[rollouts] = database
        return self._built[rollouts]

    @staticmethod
    def copy(database: Path, folder: Path) -> None:
        """Put a copy where a server will look for it, and have the disk be done with it."""
        shutil.copyfile(database, folder / database.name)
        with (folder / database.name).open("rb+") as copied:
            os.fsync(copied)


def fill(database: Path, rollouts: int) -> None:
    """Copy the one finished rollout until there are so many: with attempts, spans, counts and remembered requests."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = OFF")
        model = _Model(connection)
        for start in range(1, rollouts, _CHUNK):
            connection.execute("BEGIN")
            for number in range(start, min(start + _CHUNK, rollouts)):
                model.copy(number, before=(rollouts - number) * _STEP)
            connection.execute("COMMIT")
        connection.execute(
            "UPDATE store SET revision = ?, attempt_count = ?, span_count = ?",
            (model.revisions * rollouts, rollouts, SPANS * rollouts),
        )
        connection.execute("UPDATE rollout_counts SET count = ?", (rollouts,))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class _Model:
    """The rollout that is copied, with everything the server wrote about it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        [self.revisions] = connection.execute("SELECT revision FROM store").fetchone()
        [self._rollout] = self._rows("rollouts")
        [self._attempt] = self._rows("attempts")
        [self._sequence] = self._rows("span_sequences")
        self._spans = self._rows("spans")
        self._requests = self._rows("requests")

    def copy(self, number: int, before: int) -> None:
        """Write the rollout again under other names and revisions, so many microseconds earlier."""
        rollout_id, attempt_id = f"ro-{secrets.token_hex(6)}", f"at-{secrets.token_hex(8)}"
        ids = {"rollout_id": rollout_id, "attempt_id": attempt_id}
        shift = number * self.revisions
        self._insert(
            "rollouts",
            self._rollout,
            before,
            id=number + 1,
            rollout_id=rollout_id,
            latest_attempt_id=attempt_id,
            queue_position=self._rollout["queue_position"] + shift,
            revision=self._rollout["revision"] + shift,
            end_revision=self._rollout["end_revision"] + shift,
        )
        self._insert("attempts", self._attempt, before, **ids, revision=self._attempt["revision"] + shift)
        self._insert("span_sequences", self._sequence, 0, rollout_id=rollout_id)
        for place, span in enumerate(self._spans, start=1):
            span_id, trace_id = secrets.token_hex(8), secrets.token_hex(16)
            # Ids are of one length, so that the message's bytes stay one.
            blob: bytes = span["span"]
            for old, new in (
                (self._rollout["rollout_id"], rollout_id),
                (self._attempt["attempt_id"], attempt_id),
                (span["span_id"], span_id),
                (span["trace_id"], trace_id),
            ):
                blob = blob.replace(old.encode(), new.encode())
            self._insert(
                "spans", span, before, **ids, id=number * SPANS + place, span_id=span_id, trace_id=trace_id, span=blob
            )
        for request in self._requests:
            self._insert("requests", request, 0, request_id=secrets.token_hex(16))

    def _rows(self, table: str) -> list[dict[str, Any]]:
        # Hidden columns are those that SQLite computes.
        names = [
            row["name"]
            for row in self._connection.execute(f"SELECT name FROM pragma_table_xinfo('{table}') WHERE hidden = 0")
        ]
        return [dict(row) for row in self._connection.execute(f"SELECT {', '.join(names)} FROM {table}")]

    def _insert(self, table: str, row: dict[str, Any], before: int, **changes: Any) -> None:
        earlier = {name: value - before for name, value in row.items() if name.endswith("_time") and value is not None}
        values = row | earlier | changes
        names = ", ".join(values)
        places = ", ".join(f":{name}" for name in values)
        self._connection.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", values)
