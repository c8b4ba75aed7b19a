"""What can be set about a server, and what it allows in one call."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

DEFAULT_PORT = 4747


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server allows in one call."""

    max_batch: int = 1000
    max_page: int = 1000
    max_wait_ids: int = 10_000
    max_wait: timedelta = timedelta(seconds=60)
    default_lease: timedelta = timedelta(seconds=60)
    min_lease: timedelta = timedelta(seconds=1)
    max_lease: timedelta = timedelta(hours=1)
    max_message_bytes: int = 16 << 20
    max_request_id: int = 128


@dataclass(frozen=True, slots=True)
class Keep:
    """What a store keeps; what is beyond it is deleted in the background."""

    time: timedelta | None = None
    """Terminal rollouts, and workers of whom nothing is heard, for so long. None: for ever."""
    runs: int | None = None
    """Terminal rollouts of ended runs: those of the last so many runs. None: of all."""


@dataclass(frozen=True, slots=True)
class Config:
    """How to run a server."""

    database: Path
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    """0 for any free one."""
    grace: float = 3.0
    """Seconds that calls in progress have to finish when the server stops."""
    clients_lock: Path | None = None
    """Stop when nobody holds a shared lock on this file any more: the store ends with its last client."""
    keep: Keep = field(default_factory=Keep)
    vacuum: bool = False
    """Write the database file anew before serving it."""
    limits: Limits = field(default_factory=Limits)
