"""Time that passes when a test says so. Knows no store: those that go by a clock ask to be told of it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SECOND = 1_000_000

Follower = Callable[[int], None]
"""Told what time it is."""


class FakeClock:
    """Stands still until it is moved: leases, timeouts and back-offs come when the test says so, and at once.

    Args:
        start: Seconds since 1970 at which it begins. None: now.

    Attributes:
        now: Microseconds since 1970.

    Example:
        >>> clock = FakeClock(start=0)
        >>> clock.advance(1.5)
        >>> clock()
        1500000
    """

    def __init__(self, start: float | None = None) -> None:
        self.now = time.time_ns() // 1000 if start is None else round(start * _SECOND)
        self._followers: list[Follower] = []
        self._moving = threading.RLock()

    def __call__(self) -> int:
        """Microseconds since 1970, as a server asks for them."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass, or go back if negative; who goes by this clock has done what is due when this returns."""
        with self._moving:
            self.now += round(seconds * _SECOND)
            for follower in self._followers:
                follower(self.now)

    @contextmanager
    def followed_by(self, follower: Follower) -> Iterator[None]:
        """Tell somebody the time while the block runs: now, and whenever it has been moved."""
        with self._moving:
            follower(self.now)
            self._followers.append(follower)
        try:
            yield
        finally:
            self._followers.remove(follower)
