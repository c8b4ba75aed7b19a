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
    limits: Limits = field(default_factory=Limits)
