"""A rollout that has ended, with all that was recorded of it in one object. Knows the store alone."""

from functools import cached_property
from typing import Any

from pydantic import BaseModel, Field

from agentlightning.adapter import TracerTraceToTriplet, Triplet
from agentlightning.store import LightningStore
from agentlightning.types import AttemptedRollout, Failure, NamedResources, Rollout, RolloutMode, RolloutStatus, Span


class LitRollout(BaseModel):
    """What came of one task.

    Example:
        >>> rollout = LitRollout(rollout_id="ro-1", task={"prompt": "Why?"}, status="succeeded", final_reward=0.5)
        >>> rollout.final_reward, rollout.triplets
        (0.5, [])
    """

    rollout_id: str
    task: Any
    """What the agent was given."""
    mode: RolloutMode | None = None
    status: RolloutStatus
    final_reward: float | None = None
    """None: the agent gave none, or failed; `failure` says which."""
    failure: Failure | None = None
    """Why it did not succeed. None: it did, or was cancelled."""
    spans: list[Span] = Field(default_factory=list)
    """What the latest attempt recorded, in its order."""
    resources: NamedResources = Field(default_factory=dict)
    """What the agent was given beside the task."""
    metadata: dict[str, Any] = Field(default_factory=dict)

    @cached_property
    def trace(self) -> list[dict[str, Any]]:
        """The spans as plain data."""
        return [span.model_dump(mode="json") for span in self.spans]

    @property
    def traces(self) -> list[dict[str, Any]]:
        """Another name of `trace`."""
        return self.trace

    @cached_property
    def triplets(self) -> list[Triplet]:
        """Each call of a model as prompt, response and reward."""
        return TracerTraceToTriplet().adapt(self.spans)


async def read_result(store: LightningStore, rollout: Rollout) -> LitRollout:
    """A rollout of a store with its spans and resources."""
    pinned = None
    if rollout.resources_id is not None:
        pinned = await store.get_resources_by_id(rollout.resources_id, rollout.resources_version)
    return LitRollout(
        rollout_id=rollout.rollout_id,
        task=rollout.input,
        mode=rollout.mode,
        status=rollout.status,
        final_reward=rollout.final_reward,
        failure=rollout.attempt.failure if isinstance(rollout, AttemptedRollout) else None,
        spans=list(await store.query_spans(rollout.rollout_id, "latest")),
        resources=pinned.resources if pinned else {},
        metadata=rollout.metadata or {},
    )
