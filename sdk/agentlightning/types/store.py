"""What a store tells of itself: its counts, what it can do, its changes, its copies."""

from typing import TypedDict

from pydantic import BaseModel

from agentlightning.types.resources import ResourcesUpdate
from agentlightning.types.rollout import AttemptedRollout, Rollout, RolloutStatus
from agentlightning.types.run import Run
from agentlightning.types.worker import Worker


class LightningStoreCapabilities(TypedDict):
    """What may be done with a store object.

    Example:
        >>> store.capabilities["thread_safe"]
        True
    """

    thread_safe: bool
    """It may be called from several threads at once."""
    async_safe: bool
    """It may be called from several tasks at once."""
    zero_copy: bool
    """A copy of it in another process is the same store."""
    otlp_traces: bool
    """Spans may be sent to `otlp_traces_endpoint()`."""


class LightningStoreStatistics(TypedDict):
    """What a store holds and what happens in it.

    Example:
        >>> before = asyncio.run(store.statistics())
        >>> rollout = asyncio.run(store.enqueue_rollout("Why?"))
        >>> asyncio.run(store.statistics())["total_rollouts"] - before["total_rollouts"]
        1
    """

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
    """A copy of the database.

    Example:
        >>> copy = asyncio.run(store.backup("before-the-change.db"))
        >>> copy.path
        '...before-the-change.db'
        >>> copy.size_bytes > 0
        True
    """

    path: str
    """Where the server wrote it."""
    size_bytes: int


class Deleted(BaseModel):
    """What is left of an object that is no more.

    Example:
        >>> def shown(changed: agl.Rollout | Deleted) -> str:
        ...     return f"{changed.id} is gone" if isinstance(changed, Deleted) else changed.status
        >>> shown(Deleted(id="ro-0123456789ab"))
        'ro-0123456789ab is gone'
    """

    id: str


class Change(BaseModel):
    """Something that changed, in its latest state.

    Example:
        >>> import contextlib
        >>> async def first_change(after_revision: int) -> Change:
        ...     async with contextlib.aclosing(store.watch(after_revision)) as changes:
        ...         return await anext(changes)
        >>> seen = asyncio.run(store.statistics())["revision"]
        >>> rollout = asyncio.run(store.enqueue_rollout("Why?"))
        >>> change = asyncio.run(first_change(seen))
        >>> change.object.input, change.revision > seen
        ('Why?', True)
    """

    revision: int
    """The store's revision of the change: where a watch goes on."""
    object: AttemptedRollout | Rollout | ResourcesUpdate | Run | Worker | Deleted
