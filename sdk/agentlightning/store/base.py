"""What a store does, as Python sees it. Knows no transport: `LightningStoreClient` is the implementation."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from agentlightning.types import (
    UNSET,
    Attempt,
    AttemptedRollout,
    AttemptStatus,
    Backup,
    Change,
    DeletedRollouts,
    EnqueueRolloutRequest,
    Failure,
    LightningStoreCapabilities,
    LightningStoreStatistics,
    PaginatedResult,
    ResourcesUpdate,
    Rollout,
    RolloutConfig,
    RolloutMode,
    RolloutStatus,
    Run,
    RunStatus,
    Span,
    Unset,
    Worker,
    WorkerStatus,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["UNSET", "LightningStore", "LightningStoreCapabilities", "LightningStoreStatistics", "OnLost", "Unset"]

FilterLogic = Literal["and", "or"]
SortOrder = Literal["asc", "desc"]
OnLost = Callable[[AttemptStatus | None], None]
"""Told once, from the client's own thread, that an attempt is no longer the caller's, and its status if it is known."""


class LightningStore(ABC):
    """A durable queue of rollouts, the spans they produced, and the versioned resources being tuned.

    Every method may raise `StoreUnavailableError` when the store cannot be reached for `retry_seconds`, and
    `InvalidRequestError` (a ValueError) when a value cannot be what it is; the message names the parameter. Of a value
    that is of another type than the signature says, the error is a TypeError, too.

    The `query_` methods have parameters in common. `limit` is how many items at most, -1 for all, 0 for none but the
    total; `offset` is how many to pass over; the page's `total` counts all that match. A filter that is None does not
    apply; an empty list matches nothing; `_contains` looks for a part of a text, by case. `filter_logic` says whether
    all the filters must hold or one will do; without filters everything is found. `sort_by` names a field of the
    items; what has no time yet sorts as later than any, no text or number as least.

    Example:
        >>> import agentlightning as agl
        >>> async def best_reward(store: agl.LightningStore, mode: agl.RolloutMode) -> float | None:
        ...     page = await store.query_rollouts(mode=mode, sort_by="final_reward", sort_order="desc", limit=1)
        ...     return page[0].final_reward if page else None
        >>> print(asyncio.run(best_reward(store, "test")))
        None
    """

    @property
    @abstractmethod
    def capabilities(self) -> LightningStoreCapabilities:
        """What may be done with this object."""

    @abstractmethod
    def otlp_traces_endpoint(self) -> str:
        """Where an OTLP exporter over gRPC sends spans that carry their rollout's and attempt's ids."""

    @abstractmethod
    async def statistics(self) -> LightningStoreStatistics:
        """Count what the store holds: all of it, whatever run or queue this object is bound to."""

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
        priority: int = 0,
    ) -> Rollout:
        """Put one task into the queue.

        Args:
            input: The task: anything that is JSON, a dataclass or a pydantic model.
            mode: What it is for. None: not said.
            resources_id: The resources to give it; their version is pinned now, or when it is claimed if they are not
                there yet. None: the latest, if there are any.
            config: Limits and retries. None: no limit, one attempt.
            metadata: The caller's own JSON about it. None: an empty one.
            labels: What one filters by.
            priority: Higher is delivered first; within a priority, first come, first served.

        Raises:
            InvalidRequestError: When JSON cannot say the task or the metadata: NaN and infinities are refused too.
        """

    @abstractmethod
    async def enqueue_many_rollouts(self, rollouts: Sequence[EnqueueRolloutRequest]) -> list[Rollout]:
        """Put several tasks into the queue; the answer is in the order of the request.

        Each thousand of them is put there whole or not at all. None make none.
        """

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
        """Create a rollout with its first attempt, past the queue; it has no lease.

        See `enqueue_rollout`. With a `worker_id`, that worker is busy with it.
        """

    @abstractmethod
    async def start_attempt(self, rollout_id: str, worker_id: str | None = None) -> AttemptedRollout:
        """Start another attempt of a rollout at once, whatever its status and its `max_attempts`.

        A live attempt is superseded, a terminal rollout reopened.

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
        """Claim up to `limit` rollouts at once, in the order of the queue; see `dequeue_rollout`.

        Returns:
            What there was, perhaps fewer than asked for, perhaps none. Always none for a limit of 0.
        """

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
    async def release_attempts(self, claimed: Sequence[AttemptedRollout]) -> None:
        """Give back what was claimed and not begun: others can claim it at once, and it costs no attempt.

        Attempts that are not the caller's any more are passed over.
        """

    @abstractmethod
    async def cancel_rollouts(self, rollout_ids: Sequence[str]) -> list[Rollout]:
        """Cancel those of the rollouts that are not terminal; their holders are told.

        Returns:
            The known ones as they are now, in the order of the request.
        """

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
        """Change what is given of a rollout; None clears, where the type allows it.

        A status is taken as told: it may cancel, end, requeue or reopen the rollout, and a live attempt ends when the
        rollout does.

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
        """Change what is given of an attempt, lease or no lease; the metadata is replaced, never merged.

        The rollout follows its latest attempt by the retry rules, unless it is terminal.

        Args:
            rollout_id: The rollout.
            attempt_id: One of its attempts, or `latest`.
            status: Where the attempt stands.
            worker_id: Who holds it; that worker's status follows. Empty: nobody.
            last_heartbeat_time: When it was last heard of, in Unix seconds.
            metadata: The caller's own JSON about it. None: none.

        Raises:
            NotFoundError: When there is no such rollout, or it has no attempts, or not that one.
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
        rollout_id_contains: str | None = None,
        filter_logic: FilterLogic = "and",
        mode: RolloutMode | None = None,
        labels: Mapping[str, str] | None = None,
        queue: str | None = None,
        min_final_reward: float | None = None,
        max_final_reward: float | None = None,
        sort_by: str | None = None,
        sort_order: SortOrder = "asc",
        limit: int = -1,
        offset: int = 0,
        status: Sequence[RolloutStatus] | None = None,
    ) -> PaginatedResult[Rollout | AttemptedRollout]:
        """Read rollouts, each with its latest attempt if it has one; oldest first unless sorted otherwise.

        A bound store reads those of its run, and any that is asked for by its id.

        Args:
            rollout_ids: Only these; an older name of `rollout_id_in`, which wins.
            status_in: Only in one of these statuses.
            rollout_id_in: Only these.
            rollout_id_contains: Only with this in their id.
            filter_logic: How the three before combine. The filters that follow must hold in any case.
            mode: Only those for this.
            labels: Only those with all of these.
            queue: Only those of this queue. None: of any, also in a bound store.
            min_final_reward: Only with a final reward of at least this.
            max_final_reward: Only with a final reward of at most this.
            sort_by: `start_time`, `end_time`, `status`, `mode`, `rollout_id`, `resources_id`, `priority`,
                `final_reward` or `revision`. None: `start_time`.
            sort_order: Which comes first.
            limit: How many at most; -1 for all.
            offset: How many to pass over.
            status: An older name of `status_in`, which wins.
        """

    @abstractmethod
    def iter_rollouts(
        self,
        *,
        status_in: Sequence[RolloutStatus] | None = None,
        mode: RolloutMode | None = None,
        labels: Mapping[str, str] | None = None,
        queue: str | None = None,
        sort_order: SortOrder = "asc",
    ) -> AsyncGenerator[Rollout | AttemptedRollout, None]:
        """Each rollout as `query_rollouts` finds it, one by one: however many there are, a page of them is held.

        What is enqueued meanwhile neither repeats nor hides others. A bound store reads those of its run.

        Args:
            status_in: Only in one of these statuses.
            mode: Only those for this.
            labels: Only those with all of these.
            queue: Only those of this queue. None: of any.
            sort_order: Oldest first, or newest with `desc`.
        """

    @abstractmethod
    async def query_attempts(
        self,
        rollout_id: str,
        *,
        sort_by: str | None = "sequence_id",
        sort_order: SortOrder = "asc",
        limit: int = -1,
        offset: int = 0,
    ) -> PaginatedResult[Attempt]:
        """Read the attempts of a rollout, first to latest unless sorted otherwise. An unknown rollout has none.

        Args:
            rollout_id: The rollout.
            sort_by: `sequence_id`, `attempt_id`, `start_time`, `end_time`, `last_heartbeat_time`, `status` or
                `worker_id`.
            sort_order: Which comes first.
            limit: How many at most; -1 for all.
            offset: How many to pass over.
        """

    @abstractmethod
    async def get_latest_attempt(self, rollout_id: str) -> Attempt | None:
        """Read the latest attempt of a rollout. None: there is none."""

    @abstractmethod
    async def wait_for_rollouts(
        self, rollout_ids: Sequence[str], timeout: float | None = None, *, any_of: bool = False
    ) -> list[Rollout]:
        """Wait until all the rollouts are terminal, pushed by the server, across restarts of it.

        Args:
            rollout_ids: Which. Unknown ids are not waited for.
            timeout: Seconds to wait; None for ever, 0 or less not at all.
            any_of: Wait for one of them only.

        Returns:
            Those that are terminal, in the order of the request; the others are left out.
        """

    @abstractmethod
    def iter_finished(self, rollout_ids: Sequence[str], timeout: float | None = None) -> AsyncIterator[Rollout]:
        """Each of the rollouts as it becomes terminal; like `wait_for_rollouts`, one by one."""

    @abstractmethod
    async def add_span(self, span: Span) -> Span | None:
        """Store a span. The rollout and the attempt start to run by it, unless they have ended.

        Returns:
            The span as it is stored: numbered by the store if its `sequence_id` is 0. None: it was stored before.

        Raises:
            NotFoundError: When there is no such rollout or attempt.
            InvalidRequestError: When a value is none: NaN, an id that is not hex.
        """

    @abstractmethod
    async def add_many_spans(self, spans: Sequence[Span]) -> list[Span]:
        """Store spans and answer with those that were new, in the order of the request.

        Raises:
            NotFoundError: When there is no such rollout or attempt of one of them; the others are stored.
            InvalidRequestError: When one of them has a value that is none; the others are stored.
        """

    @abstractmethod
    async def add_otel_span(
        self, rollout_id: str, attempt_id: str, readable_span: "ReadableSpan", sequence_id: int | None = None
    ) -> Span | None:
        """Store a span of OpenTelemetry; see `add_span`.

        Args:
            rollout_id: The rollout it belongs to.
            attempt_id: The attempt it belongs to.
            readable_span: The span, ended.
            sequence_id: Its place in the attempt. None: the next.
        """

    @abstractmethod
    async def query_spans(
        self,
        rollout_id: str,
        attempt_id: str | Literal["latest"] | None = None,
        *,
        trace_id: str | None = None,
        trace_id_contains: str | None = None,
        span_id: str | None = None,
        span_id_contains: str | None = None,
        parent_id: str | None = None,
        parent_id_contains: str | None = None,
        name: str | None = None,
        name_contains: str | None = None,
        filter_logic: FilterLogic = "and",
        limit: int = -1,
        offset: int = 0,
        sort_by: str | None = "sequence_id",
        sort_order: SortOrder = "asc",
    ) -> PaginatedResult[Span]:
        """Read the spans of a rollout, by sequence unless sorted otherwise. An unknown rollout or attempt has none.

        Args:
            rollout_id: The rollout.
            attempt_id: One of its attempts, or `latest`. None: all.
            trace_id: Only of this trace.
            trace_id_contains: Only with this in their trace id.
            span_id: Only this one.
            span_id_contains: Only with this in their id.
            parent_id: Only children of this one.
            parent_id_contains: Only with this in their parent's id.
            name: Only of this name.
            name_contains: Only with this in their name.
            filter_logic: How the eight before combine.
            limit: How many at most; -1 for all.
            offset: How many to pass over.
            sort_by: `sequence_id`, `attempt_id`, `trace_id`, `span_id`, `parent_id`, `name`, `start_time` or
                `end_time`.
            sort_order: Which comes first.
        """

    @abstractmethod
    async def get_next_span_sequence_id(self, rollout_id: str, attempt_id: str) -> int:
        """Set one sequence id of a rollout aside; its attempts share the count. Neither need exist."""

    @abstractmethod
    async def get_many_span_sequence_ids(self, rollout_attempt_ids: Sequence[tuple[str, str]]) -> list[int]:
        """Set sequence ids aside, one for each pair of a rollout's and an attempt's id, in the order of the request."""

    @abstractmethod
    async def add_resources(
        self, resources: Mapping[str, Any], *, parent: ResourcesUpdate | None = None
    ) -> ResourcesUpdate:
        """Make the first version of new resources; they are the latest now.

        Args:
            resources: The bundle. A plain string is an f-string prompt template; other data is kept as JSON.
            parent: What they were derived from.
        """

    @abstractmethod
    async def update_resources(self, resources_id: str, resources: Mapping[str, Any]) -> ResourcesUpdate:
        """Make the next version of resources; the first, if there are none of that id. They are the latest now."""

    @abstractmethod
    async def get_resources_by_id(self, resources_id: str, version: int | None = None) -> ResourcesUpdate | None:
        """Read resources: one version, or the last. None: there are none."""

    @abstractmethod
    async def get_latest_resources(self) -> ResourcesUpdate | None:
        """Read the resources written last, of the run first in a bound store. None: there are none."""

    @abstractmethod
    async def query_resources(
        self,
        *,
        resources_id: str | None = None,
        resources_id_contains: str | None = None,
        all_versions: bool = False,
        sort_by: str | None = None,
        sort_order: SortOrder = "asc",
        limit: int = -1,
        offset: int = 0,
    ) -> PaginatedResult[ResourcesUpdate]:
        """Read resources in the order of writing unless sorted otherwise; a bound store reads those of its run.

        Args:
            resources_id: Only these.
            resources_id_contains: Only with this in their id.
            all_versions: Every version of each. False: the last one.
            sort_by: `resources_id`, `version`, `create_time`, `update_time` or `revision`. None: `revision`.
            sort_order: Which comes first.
            limit: How many at most; -1 for all.
            offset: How many to pass over.
        """

    @abstractmethod
    async def create_run(
        self,
        algorithm: str,
        *,
        config: Any = None,
        queue: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Run:
        """Open a run.

        Args:
            algorithm: The algorithm's name.
            config: Its settings, JSON-able.
            queue: The queue of its rollouts. None: one of its own.
            labels: What one filters by.
        """

    @abstractmethod
    async def update_run(
        self,
        run_id: str,
        *,
        status: RunStatus | Unset = UNSET,
        checkpoint: Any | Unset = UNSET,
        summary: Any | Unset = UNSET,
        best_resources: ResourcesUpdate | Unset | None = UNSET,
        failure: Failure | Unset | None = UNSET,
        if_revision: int | None = None,
    ) -> Run:
        """Change what is given of a run.

        Args:
            run_id: The run.
            status: Where it stands. One that is not `running` ends it.
            checkpoint: What the algorithm needs to go on from here, JSON-able.
            summary: What a reader wants to know, JSON-able.
            best_resources: The best resources so far.
            failure: Why it failed.
            if_revision: Only if the run is still at this revision. None: whatever it is at.

        Raises:
            NotFoundError: When there is no such run.
            ConflictError: When somebody has changed the run since `if_revision`. Nothing was changed.
        """

    @abstractmethod
    async def get_run(self, run_id: str) -> Run | None:
        """Read one run. None: there is no such run."""

    @abstractmethod
    async def query_runs(
        self,
        *,
        status: RunStatus | None = None,
        algorithm: str | None = None,
        labels: Mapping[str, str] | None = None,
        limit: int = -1,
    ) -> PaginatedResult[Run]:
        """Read runs, newest first.

        Args:
            status: Only in this status.
            algorithm: Only of this algorithm.
            labels: Only those with all of these.
            limit: How many at most; -1 for all. The `total` counts those that are read.
        """

    @abstractmethod
    async def update_worker(self, worker_id: str, heartbeat_stats: dict[str, Any] | Unset = UNSET) -> Worker:
        """Record that a worker is there, and what it says about itself.

        Args:
            worker_id: The worker; it need not be known.
            heartbeat_stats: What it says, replacing what it said before. `UNSET`: nothing new.

        Raises:
            TypeError: When `heartbeat_stats` is None.
        """

    @abstractmethod
    async def get_worker_by_id(self, worker_id: str) -> Worker | None:
        """Read one worker. None: there is no such worker."""

    @abstractmethod
    async def query_workers(
        self,
        *,
        status_in: Sequence[WorkerStatus] | None = None,
        worker_id_contains: str | None = None,
        filter_logic: FilterLogic = "and",
        sort_by: str | None = None,
        sort_order: SortOrder = "asc",
        limit: int = -1,
        offset: int = 0,
    ) -> PaginatedResult[Worker]:
        """Read workers, by name unless sorted otherwise.

        Args:
            status_in: Only in one of these statuses.
            worker_id_contains: Only with this in their id.
            filter_logic: How the two before combine.
            sort_by: `worker_id`, `status`, `last_heartbeat_time`, `last_dequeue_time`, `last_busy_time`,
                `last_idle_time`, `current_rollout_id` or `current_attempt_id`. None: `worker_id`.
            sort_order: Which comes first.
            limit: How many at most; -1 for all.
            offset: How many to pass over.
        """

    @abstractmethod
    def watch(self, after_revision: int = 0, *, queue: str | None = None) -> AsyncGenerator[Change, None]:
        """Each object that changed after a revision, in its latest state, then each as it changes; never ends.

        Steps in between may merge. Goes on by itself across breaks and restarts of the server. A bound store watches
        its run. To end it, close it: `async with contextlib.aclosing(store.watch()) as changes:`.

        Args:
            after_revision: Where to begin: 0 for everything, or the `revision` of a list of rollouts or of a change.
            queue: Only rollouts of this queue. None: any.

        Raises:
            InvalidRequestError: When the revision is too old or not reached, with reason `REVISION_OUT_OF_RANGE`:
                list again, and watch from the list's revision.
        """

    @abstractmethod
    async def delete_rollouts(
        self,
        rollout_ids: Sequence[str] | None = None,
        *,
        run_id: str | None = None,
        ended_for_seconds: float | None = None,
    ) -> DeletedRollouts:
        """Delete terminal rollouts with their attempts and spans. What is given must all hold.

        Args:
            rollout_ids: These. None: any.
            run_id: Of this run. None: of the run that the store is bound to, if it is.
            ended_for_seconds: Terminal for at least so long. None: however short.

        Raises:
            InvalidRequestError: When nothing says which.
        """

    @abstractmethod
    async def backup(self, file_name: str | None = None) -> Backup:
        """Have the server write a consistent copy of its database beside it.

        Args:
            file_name: The copy's name, without a folder. None: the database's, with the time.

        Raises:
            InvalidRequestError: When the name is taken or has a folder in it.
        """

    @abstractmethod
    def bind(self, *, run_id: str | None = None, queue: str | None = None) -> "LightningStore":
        """The same store, for one run and queue: what it enqueues and reads is the run's."""

    @abstractmethod
    async def close(self) -> None:
        """Stop renewing leases and let go of what the client holds."""
