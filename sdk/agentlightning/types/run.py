"""Runs as the SDK's users see them."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from agentlightning.types.rollout import Failure

RunStatus = Literal["running", "succeeded", "failed", "cancelled"]


class Run(BaseModel):
    """One execution of an algorithm.

    Example:
        >>> run = asyncio.run(store.create_run("mine", config={"rounds": 3}))
        >>> mine = store.bind(run_id=run.run_id, queue=run.queue)
        >>> asyncio.run(mine.enqueue_rollout("Why?")).run_id == run.run_id
        True
        >>> asyncio.run(store.update_run(run.run_id, status="succeeded", summary={"score": 0.5})).status
        'succeeded'
    """

    run_id: str
    algorithm: str = ""
    status: RunStatus = "running"
    queue: str = "default"
    """The queue its rollouts wait in."""
    config: Any = None
    """The algorithm's settings."""
    checkpoint: Any = None
    """What the algorithm needs to go on from here."""
    summary: Any = None
    """What a reader wants to know: scores, counts, where the best prompt was saved."""
    best_resources_id: str | None = None
    best_resources_version: int | None = None
    failure: Failure | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    create_time: float
    end_time: float | None = None
    revision: int = 0
