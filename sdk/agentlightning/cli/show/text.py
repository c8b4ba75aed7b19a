"""Words for a terminal: durations, sizes, and other people's texts made harmless and short. Knows nothing of stores."""

import shutil
import sys

_PIPED_WIDTH = 160


def width() -> int:
    """How many columns there are to print in; in a pipe, enough."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPED_WIDTH


def duration(seconds: float | None) -> str:
    """So many seconds in few letters.

    >>> [duration(seconds) for seconds in (0.0312, 2.5, 600, 90000)]
    ['31 ms', '2.5 s', '10 min', '25.0 h']
    """
    if seconds is None:
        return "?"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """So many bytes in few letters.

    >>> [size(count) for count in (512, 5 << 20)]
    ['512 B', '5.0 MiB']
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def counted(number: int, noun: str) -> str:
    """So many of something.

    >>> counted(1, "span"), counted(2, "span")
    ('1 span', '2 spans')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def plain(text: str, *, keep_lines: bool = False) -> str:
    """A text without the characters that a terminal obeys: what others wrote may hold any."""
    return "".join(letter if letter.isprintable() or (keep_lines and letter == "\n") else " " for letter in text)


def fitted(text: str, columns: int) -> str:
    """A text in so many columns, cut or filled."""
    from rich.cells import cell_len, set_cell_size

    columns = max(1, columns)
    return set_cell_size(text, columns) if cell_len(text) <= columns else f"{set_cell_size(text, columns - 1)}…"
