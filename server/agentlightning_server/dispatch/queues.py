"""Workers waiting for work: woken when a rollout enters their queue, never by a timer. Knows no storage."""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager

Waiter = asyncio.Future[None]


class Queues:
    """The waiting workers of each queue, longest waiting first."""

    def __init__(self) -> None:
        self._waiters: defaultdict[str, deque[Waiter]] = defaultdict(deque)

    @contextmanager
    def waiter(self, queue: str) -> Iterator[Waiter]:
        """Wait in a queue while the block runs; a wake-up that came too late to be used goes to the next."""
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._waiters[queue].append(waiter)
        try:
            yield waiter
        finally:
            self._leave(queue, waiter)

    def wake(self, queued: Counter[str]) -> None:
        """Wake as many workers as rollouts came."""
        for queue, count in queued.items():
            self._wake(queue, count)

    def wake_all(self) -> None:
        """Wake every worker: the server is going."""
        for queue in list(self._waiters):
            self._wake(queue, len(self._waiters[queue]))

    def _wake(self, queue: str, count: int) -> None:
        waiters = self._waiters.get(queue)
        while waiters and count:
            waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                count -= 1

    def _leave(self, queue: str, waiter: Waiter) -> None:
        waiters = self._waiters[queue]
        if waiter in waiters:
            waiters.remove(waiter)
        if not waiters:
            del self._waiters[queue]
