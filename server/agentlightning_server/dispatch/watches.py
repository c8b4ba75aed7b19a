"""Callers watching the store: woken when something has changed, once however much did. Knows no storage."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Watches:
    """Who watches."""

    def __init__(self) -> None:
        self._watchers: set[asyncio.Event] = set()

    @contextmanager
    def watcher(self) -> Iterator[asyncio.Event]:
        """An event that is set after each change while the block runs."""
        changed = asyncio.Event()
        self._watchers.add(changed)
        try:
            yield changed
        finally:
            self._watchers.remove(changed)

    def wake_all(self) -> None:
        """Have everybody look: something has changed, or the server is going."""
        for changed in self._watchers:
            changed.set()
