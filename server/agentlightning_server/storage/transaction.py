"""What an operation works with: a connection, the time, the revision, and the notices for after the commit."""

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from agentlightning_server.lifecycle.states import AttemptStatus
from agentlightning_server.storage.queries import queries

Row = dict[str, Any]
"""A row by the names of its columns."""


class LostAttempt(NamedTuple):
    """An attempt that is no longer its worker's, and where it stands."""

    rollout_id: str
    attempt_id: str
    status: AttemptStatus | None
    """None: there is no such attempt."""
    superseded: bool = False


@dataclass(slots=True)
class Notices:
    """What others need to know once a commit is on disk."""

    queued: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    """How many rollouts entered each queue."""
    ended: list[str] = field(default_factory=list)
    """Rollouts that became terminal."""
    deadlines: list[tuple[int, str, str]] = field(default_factory=list)
    """When to look at which rollout and attempt again; without an attempt, at a rollout whose back-off is over."""
    lost: list[LostAttempt] = field(default_factory=list)
    """Attempts that were taken from their workers."""
    given_up: list[str] = field(default_factory=list)
    """Attempts that their workers completed or released."""
    on_disk: list[Callable[[], None]] = field(default_factory=list)
    """What the operations want done before anybody hears of the rest."""
    moves: defaultdict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    """How many more rollouts each queue has in each status."""
    events: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    """What happened how often: `created` rollouts, `started` attempts, `ended` rollouts, `spans`."""
    revision: int = 0
    """The last revision made; 0 when nothing changed that has one."""

    def add(self, other: "Notices") -> None:
        """Take over another's notices."""
        for queue, count in other.queued.items():
            self.queued[queue] += count
        for place, count in other.moves.items():
            self.moves[place] += count
        for event, count in other.events.items():
            self.events[event] += count
        self.ended += other.ended
        self.deadlines += other.deadlines
        self.lost += other.lost
        self.given_up += other.given_up
        self.on_disk += other.on_disk
        self.revision = max(self.revision, other.revision)


class Reading:
    """A consistent view of the database for one operation that changes nothing."""

    def __init__(self, connection: sqlite3.Connection, now: int) -> None:
        self.connection = connection
        self.now = now

    def all(self, name: str, /, **values: Any) -> list[Row]:
        """Every row of a named query."""
        cursor = self.connection.execute(queries()[name], values)
        columns = _columns_of(name, cursor)
        return [dict(zip(columns, row, strict=True)) for row in cursor]

    def one(self, name: str, /, **values: Any) -> Row | None:
        """The first row of a named query."""
        cursor = self.connection.execute(queries()[name], values)
        row = cursor.fetchone()
        return None if row is None else dict(zip(_columns_of(name, cursor), row, strict=True))

    def revision(self) -> int:
        """The revision of the last change."""
        return int(self.connection.execute(queries()["revision"]).fetchone()[0])


class Transaction(Reading):
    """One operation's part of a group commit."""

    def __init__(self, connection: sqlite3.Connection, now: int, revision: int) -> None:
        super().__init__(connection, now)
        self.notices = Notices()
        self._revision = revision

    def run(self, name: str, /, **values: Any) -> int:
        """Execute a named query and say how many rows it changed."""
        return self.connection.execute(queries()[name], values).rowcount

    def run_with(self, name: str, row: Row) -> None:
        """Execute a named query with the columns of a row."""
        self.connection.execute(queries()[name], row)

    def move(self, queue: str, before: str | None, after: str | None) -> None:
        """Note that a rollout changes its status; None: it comes into being, or goes."""
        if before is not None:
            self.notices.moves[queue, before] -= 1
        if after is not None:
            self.notices.moves[queue, after] += 1

    def run_many(self, name: str, rows: Iterable[Sequence[Any]]) -> None:
        """Execute a named query once for each row of values."""
        self.connection.executemany(queries()[name], rows)

    def revision(self) -> int:
        """The revision of the last change, those of this commit among them."""
        return self._revision

    def next_revision(self) -> int:
        """The revision of a change that is being made."""
        self._revision += 1
        self.notices.revision = self._revision
        return self._revision


def columns_of(cursor: sqlite3.Cursor) -> tuple[str, ...]:
    """The names of the columns of a query."""
    return tuple(column[0] for column in cursor.description)


_columns: dict[str, tuple[str, ...]] = {}


def _columns_of(name: str, cursor: sqlite3.Cursor) -> tuple[str, ...]:
    if (known := _columns.get(name)) is None:
        known = _columns[name] = columns_of(cursor)
    return known


def keep_counts(connection: sqlite3.Connection, notices: Notices) -> None:
    """Write down how far a group commit has moved what the store counts: once for all of its operations."""
    if notices.revision or notices.events:
        started, spans = notices.events["started"], notices.events["spans"]
        values = {"revision": notices.revision, "attempt_count": started, "span_count": spans}
        connection.execute(queries()["keep_counts"], values)
    moved = [(*place, count) for place, count in notices.moves.items() if count]
    connection.executemany(queries()["move_rollouts"], map(_count_row, moved))
    connection.executemany(queries()["forget_count"], [_count_row(move) for move in moved if move[-1] < 0])


def _count_row(move: tuple[str, str, int]) -> Row:
    return dict(zip(("queue", "status", "count"), move, strict=True))
