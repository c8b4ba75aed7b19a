"""Time for the store: microseconds since 1970 that never jump while the process lives."""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Microseconds since 1970. Tests hand the server their own."""

SECOND = 1_000_000


def steady_clock() -> Clock:
    """A clock that starts at the wall's time and goes on by the monotonic one, so that leases survive a reset."""
    offset = time.time_ns() - time.monotonic_ns()
    return lambda: (time.monotonic_ns() + offset) // 1000
