"""Callers waiting for rollouts to end: told of each as its end is committed. Knows no storage."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class Wait:
    """One caller's wait: the ids it has been told of and has not looked at yet.

    Attributes:
        revision: Of the last commit it was told of. No end up to it is still to be told; those behind it are.
    """

    def __init__(self) -> None:
        self.revision = 0
        self._ended: set[str] = set()
        self._told = asyncio.Event()

    def tell(self, rollout_id: str, revision: int) -> None:
        """Note that a rollout has ended, in a commit that came to this revision."""
        self._ended.add(rollout_id)
        self.revision = revision
        self._told.set()

    def wake(self) -> None:
        """Have the caller look, though nothing has ended."""
        self._told.set()

    async def next(self) -> set[str]:
        """Those that ended since the last look; waits for the first, empty when woken for nothing."""
        await self._told.wait()
        self._told.clear()
        ended, self._ended = self._ended, set()
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

    def tell(self, ended: Iterable[str], revision: int) -> None:
        """Tell whoever waits for these, which have ended in a commit that came to this revision."""
        for rollout_id in ended:
            for wait in self._waits.get(rollout_id, ()):
                wait.tell(rollout_id, revision)

    def wake_all(self) -> None:
        """Have everybody look: the server is going."""
        for wait in self._all:
            wait.wake()
