"""What a document shows of a command's output, held against what was printed.

Ids, times and the like differ from store to store: one that the document shows stands for the one that is printed in
its place, and from then on for that one only. `...` stands for what is left out: lines, or a part of one.
"""

import json
import re

SHAPES = (
    r"\bro-[0-9a-f]{12}\b",
    r"\bat-[0-9a-f]{16}\b",
    r"\brs-[0-9a-f]{12}\b",
    r"\brun-[0-9a-f]{12}\b",
    r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z",
    r"\b\d+\.\d+s\b",
    r"\b\d+\.\d+\.\d+(?:\.\w+)?\b",
)
"""Ids, times, durations with a fraction, versions."""
ANY_SHAPE = re.compile("|".join(SHAPES))
LEFT_OUT = "..."


class Names:
    """Which id, time and so on of the document stands for which of the store."""

    def __init__(self) -> None:
        self._actual: dict[str, str] = {}
        self._shown: dict[str, str] = {}

    def to_actual(self, text: str) -> str:
        return ANY_SHAPE.sub(lambda found: self._actual.get(found[0], found[0]), text)

    def to_shown(self, text: str) -> str:
        return ANY_SHAPE.sub(lambda found: self._shown.get(found[0], found[0]), text)

    def match(self, shown: list[str], printed: list[str]) -> bool:
        """Whether the lines are equal; if so, what stands for what is known from now on."""
        learnt = Names()
        learnt._actual, learnt._shown = dict(self._actual), dict(self._shown)
        if len(shown) != len(printed) or not all(map(learnt._match_line, shown, printed)):
            return False
        self._actual, self._shown = learnt._actual, learnt._shown
        return True

    def _match_line(self, shown: str, printed: str) -> bool:
        found = re.fullmatch(_pattern_of(shown), printed)
        return found is not None and all(map(self._learn, ANY_SHAPE.findall(shown), found.groups()))

    def _learn(self, shown: str, actual: str) -> bool:
        return self._actual.setdefault(shown, actual) == actual and self._shown.setdefault(actual, shown) == shown


def _pattern_of(line: str) -> str:
    """What a line that is printed must look like: the same, but for what has a shape and what is left out."""
    fixed = [re.escape(text).replace(re.escape(LEFT_OUT), ".*") for text in ANY_SHAPE.split(line)]
    shapes = [next(shape for shape in SHAPES if re.fullmatch(shape, found)) for found in ANY_SHAPE.findall(line)]
    return fixed[0] + "".join(f"({shape}){text}" for shape, text in zip(shapes, fixed[1:], strict=True))


def matches(names: Names, shown: str, printed: str) -> bool:
    """Whether an output is what the document shows, but for what it leaves out."""
    first, *further = [part.splitlines() for part in re.split(r"^ *\.\.\.\n", shown, flags=re.MULTILINE)]
    lines = printed.splitlines()
    if not further:
        return names.match(first, lines)
    at = len(first)
    found = names.match(first, lines[:at])
    for part in further[:-1]:
        starts = (start for start in range(at, len(lines)) if names.match(part, lines[start : start + len(part)]))
        at = next(starts, len(lines)) + len(part)
    last = further[-1]
    return found and at + len(last) <= len(lines) and names.match(last, lines[len(lines) - len(last) :])


def as_shown(kind: str, printed: str) -> str:
    """Output as a document has it: JSON without the liberties that printers take."""
    return _indented(printed) if kind == "json" else printed


def _indented(printed: str) -> str:
    decoder, rest, text = json.JSONDecoder(), printed.strip(), ""
    while rest:
        try:
            value, end = decoder.raw_decode(rest)
        except ValueError:  # an error, say: shown as it is
            return printed
        text += json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        rest = rest[end:].lstrip()
    return text
