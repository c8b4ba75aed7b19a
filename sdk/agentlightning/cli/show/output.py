"""What commands print: tables on a terminal, plain columns in a pipe, JSON, times. Knows no noun of the store."""

import base64
import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel

from agentlightning.cli.show.text import plain

_GAP = "  "
_LEAST = 10


def print_table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under titles: as wide as the terminal, or whole and aligned where it is no terminal."""
    lines = [[title.upper() for title in titles], *([_cell(value) for value in row] for row in rows)]
    if len(lines) == 1:
        note("there are none")
    if sys.stdout.isatty():
        _print_rich(lines)
        return
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print(_GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Print names and values, a line each, without those that have none."""
    given = [(name, str(value)) for name, value in fields if value not in (None, "")]
    width = max((len(name) for name, _ in given), default=0)
    for name, value in given:
        print(f"{name.ljust(width)}  {value}")


def note(text: str) -> None:
    """Tell the person at the terminal something that is no part of the answer."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print one line of JSON."""
    print(to_json(value), flush=True)


def to_json(value: Any) -> str:
    """One line of JSON of what may have our models in it; bytes, which a span may have, in base64."""
    return json.dumps(value, ensure_ascii=False, default=_as_json)


def one_line(value: object) -> str:
    """A value as JSON of one line; a text as it is, but for what a terminal obeys."""
    text = value if isinstance(value, str) else to_json(value)
    return " ".join(plain(text).split())


def moment(seconds: float | None) -> str:
    """A time as the clock on the wall shows it."""
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def when(seconds: float | None) -> str:
    """A time in a table: short on a terminal, where room is for what is told."""
    if seconds is None or not sys.stdout.isatty():
        return moment(seconds)
    return time.strftime("%m-%d %H:%M", time.localtime(seconds))


def elapsed(start: float, end: float | None) -> str:
    """How long something took. Empty: it has not ended."""
    return "" if end is None else f"{end - start:.1f} s"


def number(value: float | None) -> str:
    """A reward or a score in few digits."""
    return "" if value is None else f"{value:.4g}"


def _as_json(value: object) -> object:
    match value:
        case BaseModel():
            return value.model_dump()
        case bytes():
            return base64.b64encode(value).decode()
        case Sequence():
            return list(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def _cell(value: object) -> str:
    return "-" if value in (None, "") else str(value)


def _print_rich(lines: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    *widths, last = (max(map(len, column)) for column in zip(*lines, strict=True))
    # Only the last column holds what may be long, and is cut: a task, a failure.
    left = console.width - sum(widths) - len(_GAP) * len(widths)
    table = Table(box=None, pad_edge=False, padding=(0, len(_GAP), 0, 0), header_style="bold")
    for title, width in zip(lines[0], [*widths, max(_LEAST, min(last, left))], strict=True):
        table.add_column(title, no_wrap=True, overflow="ellipsis", width=width)
    for line in lines[1:]:
        table.add_row(*map(Text, line))
    console.print(table, crop=False, no_wrap=True)
