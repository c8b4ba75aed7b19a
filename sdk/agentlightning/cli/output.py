"""What commands print: tables on a terminal, plain columns in a pipe, JSON, times. Knows no noun of the store."""

import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel

_NOTHING = "-"


def print_table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under titles: as wide as the terminal, or whole and aligned where it is no terminal."""
    cells = [[_cell(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(titles, cells)
        return
    lines = [[title.upper() for title in titles], *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Print names and values, a line each, without those that have none."""
    given = [(name, _cell(value)) for name, value in fields if value not in (None, "", {}, [])]
    width = max((len(name) for name, _ in given), default=0)
    for name, value in given:
        print(f"{name.ljust(width)}  {value}")


def print_json(value: Any) -> None:
    """Print one line of JSON."""
    print(json.dumps(as_json(value), ensure_ascii=False), flush=True)


def as_json(value: Any) -> Any:
    """What `json` takes of our models, alone or in lists."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [as_json(item) for item in value]
    return value


def one_line(value: object) -> str:
    """A value as JSON of one line; a text as it is."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return " ".join(text.split())


def moment(seconds: float | None) -> str:
    """A time as the clock on the wall shows it."""
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def duration(start: float, end: float | None) -> str:
    """How long something took. Empty: it has not ended."""
    return "" if end is None else f"{end - start:.1f} s"


def number(value: float | None) -> str:
    """A reward or a score in few digits."""
    return "" if value is None else f"{value:.4g}"


def _cell(value: object) -> str:
    return _NOTHING if value in (None, "") else str(value)


def _print_rich(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, title in enumerate(titles):
        # Only the last column holds what may be long: a task, a failure.
        table.add_column(title.upper(), no_wrap=True, overflow="ellipsis" if column == len(titles) - 1 else "fold")
    for row in cells:
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    Console().print(table)
