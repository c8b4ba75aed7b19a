"""When an attempt runs out of time, and of which kind. Times are whole numbers of one unit and one clock."""

from collections.abc import Callable
from typing import NamedTuple

from agentlightning_server.lifecycle.rules import on_lease_expired, on_silence, on_timeout
from agentlightning_server.lifecycle.states import Situation, Verdict

_HEARTBEATS_PER_SILENCE = 3


class Deadline(NamedTuple):
    """A moment, and the rule that speaks when it has come."""

    time: int
    rule: Callable[[Situation], Verdict]


def next_deadline(
    *,
    start_time: int,
    last_heartbeat_time: int | None,
    lease_expire_time: int | None,
    timeout: int | None,
    unresponsive_timeout: int | None,
) -> Deadline | None:
    """The first deadline of a live attempt; None if it has none.

    Where the user says how long a silence may last, that replaces the lease: the retry rules decide, not redelivery.
    """
    deadlines = []
    if timeout is not None:
        deadlines.append(Deadline(start_time + timeout, on_timeout))
    if unresponsive_timeout is not None:
        deadlines.append(Deadline((last_heartbeat_time or start_time) + unresponsive_timeout, on_silence))
    elif lease_expire_time is not None:
        deadlines.append(Deadline(lease_expire_time, on_lease_expired))
    return min(deadlines, key=lambda deadline: deadline.time, default=None)


def heartbeat_interval(lease_duration: int, unresponsive_timeout: int | None = None, *, shortest: int) -> int:
    """How often a worker is to heartbeat: several times before its silence counts.

    Args:
        lease_duration: The lease.
        unresponsive_timeout: The longest silence that the rollout allows; None: as long as the lease.
        shortest: What a short `unresponsive_timeout` does not go below: a silence shorter than this is one of spans.
    """
    interval = lease_duration // _HEARTBEATS_PER_SILENCE
    if unresponsive_timeout is None:
        return interval
    return min(interval, max(shortest, unresponsive_timeout // _HEARTBEATS_PER_SILENCE))
