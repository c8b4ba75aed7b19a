"""Rollouts and attempts as the SDK's users see them: pydantic models with times in Unix seconds."""

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

RolloutStatus = Literal[
    "queuing", "preparing", "running", "failed", "succeeded", "cancelled", "requeuing", "unspecified"
]
"""Where a rollout stands. `failed`, `succeeded` and `cancelled` are terminal; `requeuing` is between two attempts.

`unspecified` is what a newer store says and this version has no word for; nobody can ask for it.

Example:
    >>> rollout = asyncio.run(store.enqueue_rollout("Why?"))
    >>> status: RolloutStatus = asyncio.run(store.cancel_rollouts([rollout.rollout_id]))[0].status
    >>> status
    'cancelled'
"""

AttemptStatus = Literal[
    "preparing", "running", "failed", "succeeded", "unresponsive", "timeout", "cancelled", "unspecified"
]
"""Where an attempt stands. It is `preparing` until its worker is heard of; all after `running` is how it ended.

`unspecified` is what a newer store says and this version has no word for; nobody can ask for it.

Example:
    >>> started = asyncio.run(store.start_rollout("Why?"))
    >>> status: AttemptStatus = started.attempt.status
    >>> status
    'preparing'
"""

RolloutMode = Literal["train", "val", "test"]
"""What a rollout is for. An agent's `training_rollout` does those of `train`, its `validation_rollout` all others.

Example:
    >>> mode: RolloutMode = "val"
    >>> asyncio.run(store.enqueue_rollout("Why?", mode=mode)).mode
    'val'
"""

FailureKind = Literal["agent", "infrastructure", "timeout", "unresponsive", "cancelled"]

ROLLOUT_STATUSES: tuple[RolloutStatus, ...] = get_args(RolloutStatus)[:-1]
"""Those that can be asked for."""
TERMINAL_STATUSES: frozenset[RolloutStatus] = frozenset({"succeeded", "failed", "cancelled"})


class Failure(BaseModel):
    """Why an attempt did not succeed.

    Example:
        >>> failure = Failure(kind="agent", type="KeyError", message="'room'")
        >>> str(failure)
        "KeyError: 'room'"
        >>> started = asyncio.run(store.start_rollout("Why?"))
        >>> asyncio.run(store.complete_attempt(started.rollout_id, started.attempt.attempt_id, failure=failure)).status
        'failed'
    """

    kind: FailureKind
    """Who is to blame. Only `agent` says anything about the agent."""
    type: str = ""
    """The error's type, for example `ValueError`."""
    message: str = ""
    stack_trace: str = ""

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.type else self.message or self.kind


class RetryPolicy(BaseModel):
    """How often and how soon another attempt is made after one kind of failure.

    Example:
        >>> patient = RetryPolicy(kind="timeout", max_retries=2, initial_backoff_seconds=5)
        >>> rollout = asyncio.run(
        ...     store.enqueue_rollout("Why?", config=RolloutConfig(max_attempts=3, retry_policies=[patient]))
        ... )
        >>> rollout.config.retry_policies[0].max_backoff_seconds
        300.0
    """

    model_config = ConfigDict(extra="forbid")
    kind: Literal["agent", "infrastructure", "timeout", "unresponsive"]
    max_retries: int | None = Field(default=None, ge=0)
    """How many more attempts failures of this kind may bring about. None: as many as `max_attempts` leaves. Not for
    infrastructure, which `max_redeliveries` limits."""
    initial_backoff_seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """The pause before the first of them."""
    backoff_multiplier: float = Field(default=2.0, ge=1, le=10)
    """By what each further pause is longer."""
    max_backoff_seconds: float = Field(default=300.0, gt=0, allow_inf_nan=False)
    """The longest pause."""


class RolloutConfig(BaseModel):
    """How long an attempt may take and what happens when it does not succeed.

    A setting that there is not, or a value it cannot have, is a `ValueError`.

    Example:
        >>> config = RolloutConfig(timeout_seconds=60, max_attempts=2, retry_condition=["failed", "timeout"])
        >>> asyncio.run(store.enqueue_rollout("Why?", config=config)).config.max_attempts
        2
    """

    model_config = ConfigDict(extra="forbid")
    timeout_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """The longest an attempt may run, from its claim. None: no limit."""
    unresponsive_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """The longest silence before an attempt is unresponsive. None: its lease decides, and losing that costs nothing."""
    max_attempts: int = Field(default=1, ge=1)
    """Attempts in all, not counting those lost with their lease."""
    retry_condition: list[AttemptStatus] = Field(default_factory=list)
    """After which of `failed`, `timeout` and `unresponsive` another attempt is made."""
    max_redeliveries: int = Field(default=3, ge=0)
    """How often the rollout is delivered again after a lost lease or an infrastructure failure."""
    retry_policies: list[RetryPolicy] = Field(default_factory=list)
    """What differs for one kind of failure. A kind named here is retried as if `retry_condition` named its status."""


class Attempt(BaseModel):
    """One execution of a rollout by one worker.

    Example:
        >>> started = asyncio.run(store.start_rollout("Why?", worker_id="laptop"))
        >>> attempt = asyncio.run(store.get_latest_attempt(started.rollout_id))
        >>> attempt.sequence_id, attempt.status, attempt.worker_id
        (1, 'preparing', 'laptop')
    """

    rollout_id: str
    attempt_id: str
    sequence_id: int
    """1 for the first attempt of a rollout."""
    start_time: float
    end_time: float | None = None
    status: AttemptStatus = "preparing"
    worker_id: str | None = None
    last_heartbeat_time: float | None = None
    metadata: dict[str, Any] | None = None
    failure: Failure | None = None
    """Why it did not succeed. None while it lives and when it succeeded."""
    final_reward: float | None = None
    """The first named number of its last reward span."""
    lost_span_count: int = 0
    """Spans that its runner could not deliver."""


class Rollout(BaseModel):
    """One task to be done.

    Example:
        >>> rollout = asyncio.run(store.enqueue_rollout({"question": "Why?"}, mode="train", labels={"team": "blue"}))
        >>> rollout.status, rollout.is_terminal
        ('queuing', False)
        >>> [found.input for found in asyncio.run(store.query_rollouts(labels={"team": "blue"}))]
        [{'question': 'Why?'}]
    """

    rollout_id: str
    input: Any
    """The task: what the agent is given."""
    start_time: float
    """When it was enqueued or started."""
    end_time: float | None = None
    mode: RolloutMode | None = None
    resources_id: str | None = None
    resources_version: int | None = None
    """The version pinned when it was enqueued."""
    status: RolloutStatus = "queuing"
    config: RolloutConfig = Field(default_factory=RolloutConfig)
    metadata: dict[str, Any] | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    """What one filters by."""
    queue: str = "default"
    priority: int = 0
    """Higher is delivered first; within a priority, first come, first served."""
    run_id: str | None = None
    available_time: float | None = None
    """While it is requeuing after a failure with a back-off: when it will be delivered again."""

    @property
    def is_terminal(self) -> bool:
        """Whether nothing more will happen to it by itself."""
        return self.status in TERMINAL_STATUSES

    @property
    def final_reward(self) -> float | None:
        """The final reward of its latest attempt. None: there is no attempt, or it has sent no reward."""
        return None


class AttemptedRollout(Rollout):
    """A rollout with its latest attempt, or with the attempt that a worker was given.

    Example:
        >>> rollout = asyncio.run(store.start_rollout("Why?"))
        >>> span = agl.Span.from_core_fields(
        ...     agl.emit_reward(0.5), rollout_id=rollout.rollout_id, attempt_id=rollout.attempt.attempt_id
        ... )
        >>> stored = asyncio.run(store.add_span(span))
        >>> asyncio.run(store.get_rollout_by_id(rollout.rollout_id)).final_reward
        0.5
    """

    attempt: Attempt
    next_sequence_id: int = 1
    """The `sequence_id` of the first span that the holder of the attempt makes."""

    @property
    def final_reward(self) -> float | None:
        """The final reward of the attempt. None: it has sent no reward."""
        return self.attempt.final_reward

    @model_validator(mode="after")
    def _check_attempt(self) -> "AttemptedRollout":
        if self.attempt.rollout_id != self.rollout_id:
            raise ValueError(f"attempt.rollout_id is {self.attempt.rollout_id!r}, rollout_id is {self.rollout_id!r}")
        return self


class EnqueueRolloutRequest(BaseModel):
    """One rollout to be enqueued, for `enqueue_many_rollouts`.

    Example:
        >>> tasks = [EnqueueRolloutRequest(input=task, mode="val") for task in ("Why?", "How?")]
        >>> [rollout.input for rollout in asyncio.run(store.enqueue_many_rollouts(tasks))]
        ['Why?', 'How?']
    """

    input: Any
    mode: RolloutMode | None = None
    resources_id: str | None = None
    config: RolloutConfig | None = None
    metadata: dict[str, Any] | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    priority: int = Field(default=0, ge=-(2**31), lt=2**31)
    """Higher is delivered first."""


class DeletedRollouts(BaseModel):
    """What a deletion came to.

    Example:
        >>> rollout = asyncio.run(store.enqueue_rollout("Why?"))
        >>> deleted = asyncio.run(store.delete_rollouts([rollout.rollout_id, "ro-0123456789ab"]))
        >>> deleted.deleted_count, deleted.kept_rollout_ids == [rollout.rollout_id], deleted.unknown_rollout_ids
        (0, True, ['ro-0123456789ab'])
    """

    deleted_count: int
    kept_rollout_ids: list[str] = Field(default_factory=list)
    """Those asked for that stay: not terminal, or too young, or of another run."""
    unknown_rollout_ids: list[str] = Field(default_factory=list)
    """Those asked for that the store does not know."""
