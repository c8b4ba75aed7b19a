"""Callers waiting for rollouts to end: told of each as its end is committed. Knows no storage."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class Wait:
    """One caller's wait: the ids it has been told of and has not looked at yet."""

    def __init__(self) -> None:
        self._ended: list[str] = []
        self._told = asyncio.Event()

    def tell(self, rollout_id: str) -> None:
        """Note that a rollout has ended."""
        self._ended.append(rollout_id)
        self._told.set()

    def wake(self) -> None:
        """Have the caller look, though nothing has ended."""
        self._told.set()

    async def next(self) -> list[str]:
        """Those that ended since the last look; waits for the first, empty when woken for nothing."""
        await self._told.wait()
        self._told.clear()
        ended, self._ended = self._ended, []
        return ended


class Waits:
    """Who waits for which rollout."""

    def __init__(self) -> None:
        self._waits: defaultdict[str, set[Wait]] = defaultdict(set)
        self._all: set[Wait] = set()

    @contextmanager
    def wait_for(self, rollout_ids: Iterable[str]) -> Iterator[Wait]:
        """Be told of these rollouts while the block runs."""
        wait, ids = Wait(), set(rollout_ids)
        self._all.add(wait)
        for rollout_id in ids:
            self._waits[rollout_id].add(wait)
        try:
            yield wait
        finally:
            self._all.discard(wait)
            for rollout_id in ids:
                self._waits[rollout_id].discard(wait)
                if not self._waits[rollout_id]:
                    del self._waits[rollout_id]

    def tell(self, ended: Iterable[str]) -> None:
        """Tell whoever waits for these."""
        for rollout_id in ended:
            for wait in self._waits.get(rollout_id, ()):
                wait.tell(rollout_id)

    def wake_all(self) -> None:
        """Have everybody look: the server is going."""
        for wait in self._all:
            wait.wake()
