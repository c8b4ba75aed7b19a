"""How numbers and changes of a text are said in any form of a report. Knows nothing of runs."""

import difflib
from collections.abc import Mapping
from typing import Literal

Change = tuple[Literal[" ", "-", "+"], str]
"""A line that is in both texts, only in the first, or only in the second."""


def score(value: float | None) -> str:
    """A mean reward.

    >>> score(0.856), score(None)
    ('0.86', 'none')
    """
    return "none" if value is None else f"{value:.2f}"


def signed(value: float) -> str:
    """By how much something changed.

    >>> signed(0.25), signed(-0.001)
    ('+0.25', '0.00')
    """
    return "0.00" if abs(value) < 0.005 else f"{value:+.2f}"


def money(cost: float) -> str:
    """A cost in the currency of the prices, in as many digits as say something."""
    return f"{cost:.{4 if cost < 1 else 2}f}"


def counted(number: int, noun: str) -> str:
    """So many of something.

    >>> counted(1, "task"), counted(2000, "task")
    ('1 task', '2,000 tasks')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def by_kind(counts: Mapping[str, int]) -> str:
    """So many of each kind.

    >>> by_kind({"agent": 2, "timeout": 1})
    '2 agent, 1 timeout'
    """
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def shortened(text: str, width: int = 100) -> str:
    """A text in one line of at most so many letters and a few dots."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[:width] + "..."


def printable(text: str, *, keep: str = "") -> str:
    """A text without what a terminal obeys, but for the letters to keep: what others wrote may hold any."""
    return "".join(letter if letter.isprintable() or letter in keep else " " for letter in text)


def changes(before: str, after: str, context: int = 1) -> list[Change]:
    """What an edit did to a prompt, each sentence on a line, with so many lines of what it left alone around it."""
    old, new = _sentences(before), _sentences(after)
    diff = [*difflib.unified_diff(old, new, n=context, lineterm="")][2:]
    marks: dict[str, Literal[" ", "-", "+"]] = {" ": " ", "-": "-", "+": "+"}
    return [(marks[line[0]], line[1:]) for line in diff if line[0] in marks]


def _sentences(text: str) -> list[str]:
    """A prompt in lines that a diff can show: its own lines, each sentence on one."""
    return [sentence for line in text.splitlines() for sentence in line.replace(". ", ".\n").split("\n")]
