"""Ctrl-C for a runner that has the program to itself. Knows asyncio's own handling of it, and no runner."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def first_interrupt(call: Callable[[], None]) -> Iterator[None]:
    """Call something on this loop at the first SIGINT; the next does what the first would have done without this.

    That is to cancel this task, as it is the main task of `asyncio.run`. Anywhere else nothing is touched: whoever owns
    the signals there decides what they mean.
    """
    if not _is_main_task():
        yield
        return
    loop = asyncio.get_running_loop()
    of_asyncio = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, of_asyncio)
        loop.call_soon_threadsafe(call)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is handle:
            signal.signal(signal.SIGINT, of_asyncio)


def _is_main_task() -> bool:
    """Whether `asyncio.run` handles SIGINT, and by cancelling this task: it binds the task to its handler."""
    bound = getattr(signal.getsignal(signal.SIGINT), "keywords", {})
    return bound.get("main_task") is asyncio.current_task()
