"""When an attempt runs out of time."""

import pytest
from agentlightning_server.lifecycle.deadlines import heartbeat_interval, next_deadline
from agentlightning_server.lifecycle.rules import on_lease_expired, on_silence, on_timeout


@pytest.mark.parametrize(
    ("heartbeat", "lease", "timeout", "silence", "then"),
    [
        (None, None, None, None, None),
        (None, 160, None, None, (160, on_lease_expired)),
        (None, 160, 30, None, (130, on_timeout)),
        (None, 160, 300, None, (160, on_lease_expired)),
        (None, 160, None, 20, (120, on_silence)),
        (150, 160, None, 20, (170, on_silence)),
        (150, 160, 60, 20, (160, on_timeout)),
    ],
)
def test_the_first_of_timeout_silence_and_lease(heartbeat, lease, timeout, silence, then) -> None:  # type: ignore[no-untyped-def]
    deadline = next_deadline(
        start_time=100,
        last_heartbeat_time=heartbeat,
        lease_expire_time=lease,
        timeout=timeout,
        unresponsive_timeout=silence,
    )
    assert deadline == then


@pytest.mark.parametrize(
    ("lease", "silence", "then"),
    [(60, None, 20), (60, 30, 10), (60, 600, 20), (60, 2, 5), (3, 2, 1), (3, None, 1)],
)
def test_heartbeats_come_several_times_before_silence_counts_but_not_too_often(
    lease: int, silence: int | None, then: int
) -> None:
    assert heartbeat_interval(lease, silence, shortest=5) == then
