"""What a store does, as Python sees it. Knows no transport: `LightningStoreClient` is the implementation."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Literal

from agentlightning.types import (
    Attempt,
    AttemptedRollout,
    AttemptStatus,
    EnqueueRolloutRequest,
    Failure,
    PaginatedResult,
    ResourcesUpdate,
    Rollout,
    RolloutConfig,
    RolloutMode,
    RolloutStatus,
    Run,
    Span,
    Unset,
    Worker,
)
from agentlightning.types.dataset import UNSET

OnLost = Callable[[AttemptStatus | None], None]
"""Told once, from the client's own thread, that an attempt is no longer the caller's, and its status if it is known."""


class LightningStore(ABC):
    """A durable queue of rollouts, the spans they produced, and the versioned resources being tuned.

    Every method may raise `StoreUnavailableError` when the store cannot be reached for `retry_seconds`, and
    `InvalidRequestError` when a value cannot be what it is; the message names the field.
    """

    @abstractmethod
    async def enqueue_rollout(
        self,
        input: Any,
        mode: RolloutMode | None = None,
        resources_id: str | None = None,
        config: RolloutConfig | None = None,
        metadata: dict[str, Any] | None = None,
        *,
        labels: Mapping[str, str] | None = None,
    ) -> Rollout:
        """Put one task into the queue.

        Args:
            input: The task: anything that is JSON, a dataclass or a pydantic model.
            mode: What it is for.
            resources_id: The resources to give it; its version is pinned now. None: the latest, if there are any.
            config: Limits and retries. None: no limit, one attempt.
            metadata: The caller's own JSON about it.
            labels: What one filters by.
        """

    @abstractmethod
    async def enqueue_many_rollouts(self, rollouts: Sequence[EnqueueRolloutRequest]) -> list[Rollout]:
        """Put several tasks into the queue, all or none; the answer is in the order of the request."""

    @abstractmethod
    async def start_rollout(
        self,
        input: Any,
        mode: RolloutMode | None = None,
        resources_id: str | None = None,
        config: RolloutConfig | None = None,
        metadata: dict[str, Any] | None = None,
        worker_id: str | None = None,
    ) -> AttemptedRollout:
        """Create a rollout with its first attempt, past the queue; it has no lease."""

    @abstractmethod
    async def start_attempt(self, rollout_id: str, worker_id: str | None = None) -> AttemptedRollout:
        """Start another attempt of a rollout at once, whatever its status.

        Raises:
            NotFoundError: When there is no such rollout.
        """

    @abstractmethod
    async def dequeue_rollout(
        self, worker_id: str | None = None, *, wait_seconds: float = 0.0, on_lost: OnLost | None = None
    ) -> AttemptedRollout | None:
        """Claim the next rollout of the queue, waiting on the server for up to `wait_seconds` (default: not at all).

        The client renews the lease until the attempt is completed, lost or the client is closed.

        Returns:
            The rollout with the attempt to report under, or None when there was nothing in time.
        """

    @abstractmethod
    async def dequeue_many_rollouts(
        self, *, limit: int = 1, worker_id: str | None = None, wait_seconds: float = 0.0, on_lost: OnLost | None = None
    ) -> list[AttemptedRollout]:
        """Claim up to `limit` rollouts at once; see `dequeue_rollout`."""

    @abstractmethod
    async def complete_attempt(
        self,
        rollout_id: str,
        attempt_id: str,
        *,
        failure: Failure | None = None,
        spans: Sequence[Span] = (),
        lost_span_count: int = 0,
    ) -> Rollout:
        """End an attempt together with its last spans; without a failure it succeeded.

        Raises:
            AttemptLostError: When the attempt is no longer the caller's. Nothing was changed.
        """

    @abstractmethod
    async def cancel_rollouts(self, rollout_ids: Sequence[str]) -> list[Rollout]:
        """Cancel those of the rollouts that are not terminal; their holders are told."""

    @abstractmethod
    async def update_rollout(
        self,
        rollout_id: str,
        input: Any | Unset = UNSET,
        mode: RolloutMode | Unset | None = UNSET,
        resources_id: str | Unset | None = UNSET,
        status: RolloutStatus | Unset = UNSET,
        config: RolloutConfig | Unset = UNSET,
        metadata: dict[str, Any] | Unset | None = UNSET,
    ) -> Rollout:
        """Change what is given of a rollout. A status may cancel, end, requeue or reopen it.

        Raises:
            NotFoundError: When there is no such rollout.
        """

    @abstractmethod
    async def update_attempt(
        self,
        rollout_id: str,
        attempt_id: str | Literal["latest"],
        status: AttemptStatus | Unset = UNSET,
        worker_id: str | Unset = UNSET,
        last_heartbeat_time: float | Unset = UNSET,
        metadata: dict[str, Any] | Unset | None = UNSET,
    ) -> Attempt:
        """Change what is given of an attempt, lease or no lease. Never changes a terminal rollout.

        Raises:
            NotFoundError: When there is no such attempt.
        """

    @abstractmethod
    async def get_rollout_by_id(self, rollout_id: str) -> Rollout | AttemptedRollout | None:
        """Read one rollout, with its latest attempt if it has one. None: there is no such rollout."""

    @abstractmethod
    async def query_rollouts(
        self,
        rollout_ids: Sequence[str] | None = None,
        *,
        status_in: Sequence[RolloutStatus] | None = None,
        rollout_id_in: Sequence[str] | None = None,
        mode: RolloutMode | None = None,
        labels: Mapping[str, str] | None = None,
        sort_by: str | None = None,
        sort_order: Literal["asc", "desc"] = "asc",
        limit: int = -1,
        offset: int = 0,
        status: Sequence[RolloutStatus] | None = None,
    ) -> PaginatedResult[Rollout | AttemptedRollout]:
        """Read rollouts, oldest first unless sorted otherwise; a bound store reads those of its run.

        Args:
            rollout_ids: Only these; an older name of `rollout_id_in`.
            status_in: Only in these statuses; an empty list matches nothing.
            rollout_id_in: Only these; an empty list matches nothing.
            mode: Only those for this.
            labels: Only those with all of these.
            sort_by: `start_time`, `end_time`, `status`, `mode` or `rollout_id`.
            sort_order: Which comes first.
            limit: How many at most; -1 for all.
            offset: How many to pass over.
            status: An older name of `status_in`.
        """

    @abstractmethod
    async def query_attempts(self, rollout_id: str) -> PaginatedResult[Attempt]:
        """Read the attempts of a rollout, first to latest. An unknown rollout has none."""

    @abstractmethod
    async def get_latest_attempt(self, rollout_id: str) -> Attempt | None:
        """Read the latest attempt of a rollout. None: there is none."""

    @abstractmethod
    async def wait_for_rollouts(self, rollout_ids: Sequence[str], timeout: float | None = None) -> list[Rollout]:
        """Wait until all the rollouts are terminal, pushed by the server, across restarts of it.

        Args:
            rollout_ids: Which. Unknown ids are not waited for.
            timeout: Seconds to wait; None for ever, 0 not at all.

        Returns:
            Those that are terminal, in the order of the request.
        """

    @abstractmethod
    def iter_finished(self, rollout_ids: Sequence[str], timeout: float | None = None) -> AsyncIterator[Rollout]:
        """Each of the rollouts as it becomes terminal; like `wait_for_rollouts`, one by one."""

    @abstractmethod
    async def add_span(self, span: Span) -> Span | None:
        """Store a span. None: it was stored before.

        Raises:
            NotFoundError: When there is no such attempt.
        """

    @abstractmethod
    async def add_many_spans(self, spans: Sequence[Span]) -> list[Span]:
        """Store spans in one call and answer with those that were new.

        Raises:
            NotFoundError: When there is no such attempt; the others are stored.
        """

    @abstractmethod
    async def query_spans(
        self, rollout_id: str, attempt_id: str | Literal["latest"] | None = None, *, name: str | None = None
    ) -> PaginatedResult[Span]:
        """Read the spans of a rollout by sequence. An unknown rollout has none.

        Args:
            rollout_id: The rollout.
            attempt_id: One of its attempts, or `latest`. None: all.
            name: Only spans of this name.
        """

    @abstractmethod
    async def get_next_span_sequence_id(self, rollout_id: str, attempt_id: str) -> int:
        """Set one sequence id of a rollout aside."""

    @abstractmethod
    async def add_resources(
        self, resources: Mapping[str, Any], *, parent: ResourcesUpdate | None = None
    ) -> ResourcesUpdate:
        """Make the first version of new resources.

        Args:
            resources: The bundle. A plain string is an f-string prompt template; other data is kept as JSON.
            parent: What they were derived from.
        """

    @abstractmethod
    async def update_resources(self, resources_id: str, resources: Mapping[str, Any]) -> ResourcesUpdate:
        """Make the next version of resources; the first, if there are none of that id."""

    @abstractmethod
    async def get_resources_by_id(self, resources_id: str, version: int | None = None) -> ResourcesUpdate | None:
        """Read resources: one version, or the last. None: there are none."""

    @abstractmethod
    async def get_latest_resources(self) -> ResourcesUpdate | None:
        """Read the resources written last, of the run first in a bound store. None: there are none."""

    @abstractmethod
    async def query_resources(self, resources_id: str | None = None) -> PaginatedResult[ResourcesUpdate]:
        """Read the last version of each of the resources, or every version of one."""

    @abstractmethod
    async def create_run(self, algorithm: str, *, config: Any = None, queue: str | None = None) -> Run:
        """Open a run.

        Args:
            algorithm: The algorithm's name.
            config: Its settings, JSON-able.
            queue: The queue of its rollouts. None: one of its own.
        """

    @abstractmethod
    async def update_run(
        self,
        run_id: str,
        *,
        status: Literal["running", "succeeded", "failed", "cancelled"] | Unset = UNSET,
        checkpoint: Any | Unset = UNSET,
        summary: Any | Unset = UNSET,
        best_resources: ResourcesUpdate | Unset = UNSET,
        failure: Failure | Unset = UNSET,
    ) -> Run:
        """Change what is given of a run.

        Raises:
            NotFoundError: When there is no such run.
        """

    @abstractmethod
    async def get_run(self, run_id: str) -> Run | None:
        """Read one run. None: there is no such run."""

    @abstractmethod
    async def query_runs(self) -> PaginatedResult[Run]:
        """Read all runs, newest first."""

    @abstractmethod
    async def update_worker(self, worker_id: str, heartbeat_stats: dict[str, Any] | None = None) -> Worker:
        """Record what a worker says about itself."""

    @abstractmethod
    async def get_worker_by_id(self, worker_id: str) -> Worker | None:
        """Read one worker. None: there is no such worker."""

    @abstractmethod
    async def query_workers(self) -> PaginatedResult[Worker]:
        """Read all workers by name."""

    @abstractmethod
    async def statistics(self) -> dict[str, Any]:
        """Count what the store holds."""

    @abstractmethod
    def bind(self, *, run_id: str | None = None, queue: str | None = None) -> "LightningStore":
        """The same store, for one run and queue: what it enqueues and reads is the run's."""

    @abstractmethod
    async def close(self) -> None:
        """Stop renewing leases and let go of what the client holds."""
