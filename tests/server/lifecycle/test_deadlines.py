"""When an attempt runs out of time."""

import pytest
from agentlightning_server.lifecycle.deadlines import next_deadline
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
