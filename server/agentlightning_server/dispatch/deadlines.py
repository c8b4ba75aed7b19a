"""The deadlines of live attempts, in memory: fires each when it has come, with one timer for the first of them."""

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable, Iterable

from agentlightning_server.clock import SECOND, Clock
from agentlightning_server.errors import StoreError

_log = logging.getLogger(__name__)
_PAUSE = 1.0

Due = tuple[int, str, str]
"""A time, a rollout, an attempt."""


class Deadlines:
    """A heap of moments at which to look at an attempt.

    Entries are hints: renewing a lease leaves the old entry in place, and whoever looks finds the new deadline and
    announces it again. So a heartbeat costs nothing here.
    """

    def __init__(self, clock: Clock, on_due: Callable[[list[Due]], Awaitable[None]]) -> None:
        self._clock = clock
        self._on_due = on_due
        self._heap: list[Due] = []
        self._earlier = asyncio.Event()
        self._settling = asyncio.Lock()

    def add(self, deadlines: Iterable[Due]) -> None:
        """Look at these attempts when their time has come."""
        for due in deadlines:
            if not self._heap or due < self._heap[0]:
                self._earlier.set()
            heapq.heappush(self._heap, due)

    async def settle(self) -> None:
        """Fire what is due: after this, nothing that is read shows a state whose deadline has passed."""
        nothing_is_due = not self._heap or self._heap[0][0] > self._clock()
        if nothing_is_due and not self._settling.locked():
            return
        async with self._settling:
            while due := self._due():
                try:
                    await self._on_due(due)
                except BaseException:
                    self.add(due)  # not done: they are still due
                    raise

    async def fire_for_ever(self) -> None:
        """Fire each deadline when it has come."""
        while True:
            self._earlier.clear()
            try:
                async with asyncio.timeout(self._seconds_to_first()):
                    await self._earlier.wait()
            except TimeoutError:
                try:
                    await self.settle()
                except StoreError as error:
                    _log.error("deadlines cannot be written, trying again in %g s: %s", _PAUSE, error)
                    await asyncio.sleep(_PAUSE)
                except Exception:  # one that is not foreseen must not be the end of all others
                    _log.exception("deadlines were not looked at, trying again in %g s", _PAUSE)
                    await asyncio.sleep(_PAUSE)

    def _seconds_to_first(self) -> float | None:
        return max(0.0, (self._heap[0][0] - self._clock()) / SECOND) if self._heap else None

    def _due(self) -> list[Due]:
        now, due = self._clock(), []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap))
        return due
