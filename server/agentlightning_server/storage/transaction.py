"""What an operation works with: a connection, the time, the revision, and the notices for after the commit."""

import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from agentlightning_server.lifecycle.states import AttemptStatus
from agentlightning_server.storage.queries import queries


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

    queued: Counter[str] = field(default_factory=Counter)
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
    events: Counter[str] = field(default_factory=Counter)
    """What happened how often: `created` rollouts, `started` attempts, `ended` rollouts, `spans`."""
    revision: int = 0
    """The last revision made; 0 when nothing changed that has one."""

    def add(self, other: "Notices") -> None:
        """Take over another's notices."""
        self.queued.update(other.queued)
        self.ended += other.ended
        self.deadlines += other.deadlines
        self.lost += other.lost
        self.given_up += other.given_up
        self.on_disk += other.on_disk
        self.events.update(other.events)
        self.revision = max(self.revision, other.revision)


class Reading:
    """A consistent view of the database for one operation that changes nothing."""

    def __init__(self, connection: sqlite3.Connection, now: int) -> None:
        self.connection = connection
        self.now = now

    def all(self, name: str, /, **values: Any) -> list[sqlite3.Row]:
        """Every row of a named query."""
        return self.connection.execute(queries()[name], values).fetchall()

    def one(self, name: str, /, **values: Any) -> sqlite3.Row | None:
        """The first row of a named query."""
        row: sqlite3.Row | None = self.connection.execute(queries()[name], values).fetchone()
        return row

    def revision(self) -> int:
        """The revision of the last change."""
        return int(self.connection.execute(queries()["revision"]).fetchone()[0])


class Transaction(Reading):
    """One operation's part of a group commit."""

    def __init__(self, connection: sqlite3.Connection, now: int) -> None:
        super().__init__(connection, now)
        self.notices = Notices()

    def run(self, name: str, /, **values: Any) -> int:
        """Execute a named query and say how many rows it changed."""
        return self.connection.execute(queries()[name], values).rowcount

    def next_revision(self) -> int:
        """The revision of a change that is being made."""
        self.notices.revision = int(self.connection.execute(queries()["next_revision"]).fetchone()[0])
        return self.notices.revision
