"""What a store tells of itself: its counts, what it can do, its changes, its copies."""

from typing import TypedDict

from pydantic import BaseModel

from agentlightning.types.resources import ResourcesUpdate
from agentlightning.types.rollout import AttemptedRollout, Rollout, RolloutStatus
from agentlightning.types.run import Run
from agentlightning.types.worker import Worker


class LightningStoreCapabilities(TypedDict):
    """What may be done with a store object."""

    thread_safe: bool
    """It may be called from several threads at once."""
    async_safe: bool
    """It may be called from several tasks at once."""
    zero_copy: bool
    """A copy of it in another process is the same store."""
    otlp_traces: bool
    """Spans may be sent to `otlp_traces_endpoint()`."""


class LightningStoreStatistics(TypedDict):
    """What a store holds and what happens in it."""

    name: str
    """The class of the store object."""
    total_rollouts: int
    total_attempts: int
    total_spans: int
    total_resources: int
    """Resources, versions not counted."""
    total_workers: int
    total_runs: int
    uptime: float
    """Seconds since the server started."""
    rollouts_by_status: dict[RolloutStatus, int]
    queued: dict[str, int]
    """How many rollouts wait in each queue."""
    oldest_queued_seconds: dict[str, float]
    """How long the oldest of them has waited, where any does."""
    live_attempts: dict[str, int]
    """How many live attempts each worker holds; those without a worker under the empty name."""
    rates: dict[str, float]
    """Rollouts `created`, attempts `started`, rollouts `ended` and `spans` stored in one second, of late."""
    revision: int
    database_bytes: int


class Backup(BaseModel):
    """A copy of the database."""

    path: str
    """Where the server wrote it."""
    size_bytes: int


class Deleted(BaseModel):
    """What is left of an object that is no more."""

    id: str


class Change(BaseModel):
    """Something that changed, in its latest state."""

    revision: int
    """The store's revision of the change: where a watch goes on."""
    object: AttemptedRollout | Rollout | ResourcesUpdate | Run | Worker | Deleted
