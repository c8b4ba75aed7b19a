"""Workers as the SDK's users see them."""

from typing import Any, Literal

from pydantic import BaseModel

WorkerStatus = Literal["idle", "busy", "unknown"]


class Worker(BaseModel):
    """A process that dequeues.

    Example:
        >>> worker = asyncio.run(store.update_worker("desk", heartbeat_stats={"cpu": 0.5}))
        >>> worker.status, worker.heartbeat_stats, worker.current_rollout_id
        ('unknown', {'cpu': 0.5}, None)
    """

    worker_id: str
    status: WorkerStatus = "unknown"
    heartbeat_stats: dict[str, Any] | None = None
    last_heartbeat_time: float | None = None
    last_dequeue_time: float | None = None
    last_busy_time: float | None = None
    last_idle_time: float | None = None
    current_rollout_id: str | None = None
    current_attempt_id: str | None = None
    queue: str | None = None
    """The one it last asked for work."""
