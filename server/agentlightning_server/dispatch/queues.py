"""Workers waiting for work: woken when a rollout enters their queue, never by a timer. Knows no storage."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Waiter:
    """One worker's place in line.

    Args:
        news: What to set when it is woken; for a worker that waits for other things as well.
    """

    def __init__(self, news: asyncio.Event | None = None) -> None:
        self.woken = False
        self._news = news or asyncio.Event()

    def wake(self) -> None:
        """There is a rollout for this worker."""
        self.woken = True
        self._news.set()

    async def wait_until(self, deadline: float) -> bool:
        """Wait to be woken; false when the time, by the loop's clock, came first."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._news.wait()
        except TimeoutError:
            if not self.woken:
                return False
        self._news.clear()
        self.woken = False
        return True


class Queues:
    """The waiting workers of each queue, longest waiting first."""

    def __init__(self) -> None:
        self._waiters: defaultdict[str, deque[Waiter]] = defaultdict(deque)

    @contextmanager
    def waiter(self, queue: str) -> Iterator[Waiter]:
        """Stand in line while the block runs."""
        waiter = Waiter()
        self.join(queue, waiter)
        try:
            yield waiter
        finally:
            self.leave(queue, waiter)

    def join(self, queue: str, waiter: Waiter) -> None:
        """Stand in line, last."""
        self._waiters[queue].append(waiter)

    def leave(self, queue: str, waiter: Waiter) -> None:
        """Stand in line no more; whoever leaves with a wake-up unused hands it to the next."""
        waiters = self._waiters[queue]
        if waiter in waiters:
            waiters.remove(waiter)
        if not waiters:
            del self._waiters[queue]
        if waiter.woken:
            self._wake(queue, 1)

    def wake(self, queued: Mapping[str, int]) -> None:
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
            waiters.popleft().wake()
            count -= 1
