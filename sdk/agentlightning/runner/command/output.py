"""What a process prints: its end, kept, and its lines, told as they come. Knows no process."""

from collections.abc import Callable
from typing import Final

KEPT_BYTES: Final = 64 << 10
"""How much of the end of a stream is kept."""
_LONGEST_LINE: Final = 8 << 10


class Output:
    """One stream of a process, of which no more than the end is ever in memory.

    Args:
        tell: Given each line as it ends; of one that is very long, parts. None: nobody listens.
    """

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self._kept = bytearray()
        self._cut = 0
        self._tell = tell
        self._line = bytearray()

    def add(self, data: bytes) -> None:
        """Take what was printed."""
        self._kept += data
        surplus = len(self._kept) - KEPT_BYTES
        if surplus > 0:
            del self._kept[:surplus]
            self._cut += surplus
        if self._tell is not None:
            self._line += data
            self._tell_lines(self._tell)

    def end(self) -> None:
        """Nothing more comes: tell the last line, if it did not end."""
        if self._tell is not None and self._line:
            self._tell(_text(self._line))
            self._line.clear()

    @property
    def text(self) -> str:
        """The end of it as text, and how much there was before; what is no UTF-8 is replaced."""
        cut = f"[{self._cut} bytes before this are not kept]\n" if self._cut else ""
        return cut + _text(self._kept)

    @property
    def last_line(self) -> str:
        """The last line that is not empty. Empty: there is none, or its beginning is not kept."""
        stripped = bytes(self._kept).rstrip()
        _, newline, last = stripped.rpartition(b"\n")
        # Some begin what they print with a byte order mark, which is part of no number.
        return "" if self._cut and not newline else last.decode("utf-8-sig", "replace").strip()

    def _tell_lines(self, tell: Callable[[str], None]) -> None:
        *lines, rest = self._line.split(b"\n")
        for line in lines:
            tell(_text(line))
        while len(rest) > _LONGEST_LINE:
            tell(_text(rest[:_LONGEST_LINE]))
            del rest[:_LONGEST_LINE]
        self._line = rest


def _text(data: bytes | bytearray) -> str:
    return data.decode("utf-8", "replace")
