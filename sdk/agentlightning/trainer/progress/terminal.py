"""A few live lines at the lower end of a terminal, and what anybody prints above them. Knows not what they say.

While it is open, what this process and those that it forks write to the terminal goes through a pipe, so that a single
thread writes there and nothing is written into the live lines.
"""

import contextlib
import os
import select
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

_REDRAW_SECONDS: Final = 0.125
_CLOCK_SECONDS: Final = 1.0
_CHUNK: Final = 1 << 16

_in_use = threading.Lock()


class Terminal:
    """The terminal that stdout is, `taken` for the live lines.

    Take it before processes are forked, start it afterwards: a process with threads is not to be forked.

    Args:
        render: What the live lines are now; called from another thread.
    """

    def __init__(self, render: "Callable[[], RenderableType]") -> None:
        self._render = render
        self._thread: threading.Thread | None = None
        self._closing = False
        self._is_over = False

    @classmethod
    def taken(cls, render: "Callable[[], RenderableType]") -> "Terminal | None":
        """The terminal, with all that is written to it from now on; None if stdout is none, or somebody draws on it."""
        if not _is_terminal() or not _in_use.acquire(blocking=False):
            return None
        terminal = cls(render)
        terminal._take()
        return terminal

    def _take(self) -> None:
        _flush()
        self._written, writable = os.pipe()
        self._woken, self._waker = os.pipe()
        for descriptor in (self._written, self._woken, self._waker):
            os.set_blocking(descriptor, False)
        self._saved = {number: os.dup(number) for number in (1, 2) if os.isatty(number)}
        for number in self._saved:
            os.dup2(writable, number)
        os.close(writable)

    def start(self) -> None:
        """Begin to draw."""
        self._thread = threading.Thread(target=self._draw_for_ever, name="terminal", daemon=True)
        self._thread.start()

    def changed(self) -> None:
        """Redraw the live lines soon."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._waker, b"x")

    def close(self) -> None:
        """Remove the live lines and give the terminal back; what was printed stays."""
        _flush()
        for number, saved in self._saved.items():
            os.dup2(saved, number)
        self._closing = True
        if self._thread is None:
            self.start()
        self.changed()
        assert self._thread is not None
        self._thread.join()
        for descriptor in (self._written, self._woken, self._waker, *self._saved.values()):
            os.close(descriptor)
        _in_use.release()

    def _draw_for_ever(self) -> None:
        try:
            self._draw()
        except Exception:  # whatever it is, nobody who prints may wait for a reader, and that includes a logger here
            written: bytes | None = traceback.format_exc().encode()
            while written is not None:
                with contextlib.suppress(OSError):
                    os.write(self._saved[1], written)
                written = self._next(None)

    def _draw(self) -> None:
        from rich.console import Console
        from rich.live import Live

        encoding = sys.stdout.encoding
        with open(self._saved[1], "w", encoding=encoding, errors="replace", closefd=False) as out:
            console = Console(file=out)
            above = _Above(console, encoding)
            with Live(
                console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
            ) as live:
                console.show_cursor()  # nobody else would, if this process were killed
                self._draw_until_closed(console, live, above)
                above.show_all()

    def _draw_until_closed(self, console: "Console", live: "Live", above: "_Above") -> None:
        due, is_stale = 0.0, True
        while (written := self._next(max(0.0, due - time.monotonic()) if is_stale else _CLOCK_SECONDS)) is not None:
            above.add(written)
            is_stale = time.monotonic() < due
            if not is_stale:
                above.show_lines()
                console.size = _size(self._saved[1])
                live.update(self._render(), refresh=True)
                due = time.monotonic() + _REDRAW_SECONDS

    def _next(self, timeout: float | None) -> bytes | None:
        """What was written; nothing when there is something else to show or the time is over; None at the end.

        One more read after `close` empties the pipe: whoever still holds its other end is not waited for.
        """
        if self._is_over:
            return None
        self._is_over = self._closing
        select.select([self._written, self._woken], [], [], 0.0 if self._closing else timeout)
        _read(self._woken)
        return _read(self._written)


class _Above:
    """Shows what was written above the live lines: whole lines only, as these begin in the first column."""

    def __init__(self, console: "Console", encoding: str) -> None:
        self._console = console
        self._encoding = encoding
        self._written = bytearray()

    def add(self, written: bytes) -> None:
        self._written += written

    def show_lines(self) -> None:
        lines, newline, rest = self._written.rpartition(b"\n")
        if newline:
            self._print(lines)
            self._written = rest

    def show_all(self) -> None:
        self.show_lines()
        if self._written:
            self._print(self._written)

    def _print(self, lines: bytearray) -> None:
        from rich.text import Text

        text = Text.from_ansi(lines.decode(self._encoding, errors="replace"))
        self._console.print(text, soft_wrap=True)


def _is_terminal() -> bool:
    """Whether stdout is a terminal that lines can be redrawn on."""
    try:
        return sys.stdout.isatty() and sys.stdout.fileno() == 1 and os.environ.get("TERM") != "dumb"
    except (OSError, ValueError, AttributeError):
        return False


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _CHUNK)
    except BlockingIOError:
        return b""


def _size(terminal: int) -> "tuple[int, int]":
    size = os.get_terminal_size(terminal)
    return size.columns or 80, size.lines or 24


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
