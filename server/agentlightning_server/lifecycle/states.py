"""The words the rules speak: statuses, outcomes, and what a rule looks at and says. Knows no storage and no wire."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class RolloutStatus(StrEnum):
    """Where a rollout stands."""

    QUEUING = "queuing"
    PREPARING = "preparing"
    RUNNING = "running"
    REQUEUING = "requeuing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return self in _TERMINAL_ROLLOUT

    @property
    def is_queued(self) -> bool:
        """Whether it waits in its queue."""
        return self in (RolloutStatus.QUEUING, RolloutStatus.REQUEUING)

    @property
    def is_at_work(self) -> bool:
        """Whether a worker holds it."""
        return self in (RolloutStatus.PREPARING, RolloutStatus.RUNNING)


class AttemptStatus(StrEnum):
    """Where an attempt stands."""

    PREPARING = "preparing"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMEOUT = "timeout"
    UNRESPONSIVE = "unresponsive"
    CANCELLED = "cancelled"

    @property
    def is_live(self) -> bool:
        """Whether a worker may be at work on it."""
        return self in (AttemptStatus.PREPARING, AttemptStatus.RUNNING)


class FailureKind(StrEnum):
    """Who is to blame when an attempt does not succeed."""

    AGENT = "agent"
    INFRASTRUCTURE = "infrastructure"
    TIMEOUT = "timeout"
    UNRESPONSIVE = "unresponsive"
    CANCELLED = "cancelled"


_TERMINAL_ROLLOUT = frozenset({RolloutStatus.SUCCEEDED, RolloutStatus.FAILED, RolloutStatus.CANCELLED})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon another attempt is made after one kind of failure. Times are of any one unit."""

    max_retries: int | None = None
    initial_backoff: int = 0
    backoff_multiplier: float = 2.0
    max_backoff: int = 0

    def backoff(self, retries: int) -> int:
        """The pause after so many retries."""
        # The exponent is bounded because floats are; a pause of a billion times the first is the longest anyway.
        return int(min(self.max_backoff, self.initial_backoff * self.backoff_multiplier ** min(retries, 30)))


@dataclass(frozen=True, slots=True)
class RetryRules:
    """When another attempt is made."""

    max_attempts: int = 1
    retry_condition: frozenset[AttemptStatus] = frozenset()
    max_redeliveries: int = 3
    policies: Mapping[FailureKind, RetryPolicy] = field(default_factory=dict)


class Situation(NamedTuple):
    """A rollout and one of its attempts, as far as a rule looks at them."""

    rollout: RolloutStatus
    attempt: AttemptStatus
    is_latest: bool = True
    sequence_id: int = 1
    redeliveries: int = 0
    """Attempts of the rollout that were lost, this one not counted before its rule has spoken."""
    releases: int = 0
    """Attempts of the rollout that were given back unstarted."""
    lost: bool = False
    """The attempt itself is one of the lost: its lease expired, or its worker blamed the infrastructure."""
    failures: Mapping[FailureKind, int] = MappingProxyType({})
    """Earlier attempts of the rollout by how they failed, the lost not counted."""
    retry: RetryRules = RetryRules()


class Verdict(NamedTuple):
    """What a rule says: where rollout and attempt stand from now on."""

    rollout: RolloutStatus
    attempt: AttemptStatus
    redeliveries: int
    lost: bool = False
    backoff: int = 0
    """How long the rollout waits in its queue before it may be claimed."""


class Refused(Exception):
    """A rule refuses what was asked; nothing may be changed."""


class Superseded(Refused):
    """The rollout has a later attempt."""


class Ended(Refused):
    """The attempt has ended."""


class TransitionRefused(Refused):
    """There is no way from this status to that one."""
