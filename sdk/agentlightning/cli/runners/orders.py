"""What a running command is told: to drain, then to stop. By signals, or by the process that started this one.

Knows nothing of what is drained or stopped.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator

_log = logging.getLogger(__name__)
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
DRAIN = b"drain\n"
"""What tells a process through its lifeline to drain; the end of the lifeline tells it to stop."""


class Orders:
    """What a command is told while it works.

    Attributes:
        drain: Set when it is to finish what it does and begin no more.
        stopped: The exit code, when it is to end at once.
    """

    def __init__(self) -> None:
        self.drain = asyncio.Event()
        self.stopped: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def stop(self, code: int) -> None:
        """Have it end at once, with an exit code."""
        self.drain.set()
        if not self.stopped.done():
            self.stopped.set_result(code)

    @contextlib.contextmanager
    def from_signals(self, drain_seconds: float | None) -> Iterator[None]:
        """Drain at the first SIGINT or SIGTERM, stop at the second, or when draining takes too long.

        Also as process 1 of a container, where a signal that nobody handles does nothing.
        """
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._signalled, number, drain_seconds)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    @contextlib.contextmanager
    def from_lifeline(self, lifeline: int) -> Iterator[None]:
        """Obey who holds the other end of a pipe, and no signal: a terminal and Slurm send theirs to every process."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            # Not SIG_IGN: whatever agents start would ignore them, too.
            signal.signal(number, lambda *_: None)
        loop.add_reader(lifeline, self._heard, lifeline)
        try:
            yield
        finally:
            loop.remove_reader(lifeline)

    def _signalled(self, number: signal.Signals, drain_seconds: float | None) -> None:
        if self.drain.is_set():
            self.stop(128 + number)
            return
        _log.warning("%s: finishing what runs, taking no more. A second signal stops it.", number.name)
        self.drain.set()
        if drain_seconds is not None:
            asyncio.get_running_loop().call_later(drain_seconds, self._drained_long, drain_seconds)

    def _drained_long(self, seconds: float) -> None:
        if not self.stopped.done():
            _log.warning("Not finished in %g s: what still runs is given back.", seconds)
            self.stop(1)

    def _heard(self, lifeline: int) -> None:
        if os.read(lifeline, 1024):
            self.drain.set()
        else:
            self.stop(1)


@contextlib.contextmanager
def ending_at_signals() -> Iterator[None]:
    """While the block runs, end at the first signal: nothing is in progress yet."""

    def end(number: int, frame: object) -> None:
        sys.exit(128 + number)

    before = [(number, signal.signal(number, end)) for number in _SIGNALS]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
