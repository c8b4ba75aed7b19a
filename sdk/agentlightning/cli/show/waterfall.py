"""A tree of spans as lines of text: a bar each on one axis of time, and what was said. Knows no store.

What others wrote is shown without its control characters: a span may come from anywhere, and a terminal obeys.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from agentlightning.cli.facts.spans import Facts
from agentlightning.cli.facts.spantree import Branch
from agentlightning.cli.show.output import to_json
from agentlightning.cli.show.text import counted, duration, fitted, plain

Style = Literal["", "bold", "dim", "red", "green", "cyan"]

_FIRST, _LAST = 20, 5
"""How many of many spans beside one another are shown: the first and the last of them."""
_MANY = 200
"""How many spans are shown before the deeper ones are only counted."""
_BAR, _LABEL = 24, 44
_TEXT_LINES = 3
_INDENTED = 14
"""How many levels are indented; what lies deeper stands under one another."""


@dataclass(frozen=True)
class Line:
    """A line, and how it looks where that can be shown."""

    text: str
    style: Style = ""


def waterfall(trees: Sequence[Branch], *, width: int, depth: int | None = None, full: bool = False) -> list[Line]:
    """A line for each span, and under it what was said in it.

    Args:
        trees: The spans.
        width: Columns of a line; nothing is longer.
        depth: How deep to look; what lies deeper is counted. None: as deep as can be read.
        full: Whether to show every span and every message whole, however wide that is.
    """
    return list(_Waterfall(trees, width, depth, full).lines())


_Item: TypeAlias = "Line | Iterator[_Item]"
"""A line, or those of a level below."""


class _Waterfall:
    def __init__(self, trees: Sequence[Branch], width: int, depth: int | None, full: bool) -> None:
        self._trees, self._width, self._full = trees, width, full
        self._depth = depth if full or depth is not None else _readable_depth(trees)
        ends = [_end(branch) for tree in trees for branch in tree.all_below()]
        self._seconds = max(ends, default=0.0)
        self._said: list[Any] = []

    def lines(self) -> Iterator[Line]:
        levels = [self._level(self._trees, "")]  # and not calls in calls: spans may lie deeper than those can
        while levels:
            item = next(levels[-1], None)
            if item is None:
                levels.pop()
            elif isinstance(item, Line):
                yield item
            else:
                levels.append(item)

    def _level(self, branches: Sequence[Branch], stem: str) -> "Iterator[_Item]":
        passed: list[Branch] = []
        for place, branch in enumerate(branches):
            if self._full or _is_kept(branch, place, len(branches)):
                yield from self._passed(passed, stem)
                passed = []
                yield from self._branch(branch, stem, is_last=branch is branches[-1])
            else:
                passed.append(branch)
        yield from self._passed(passed, stem)

    def _passed(self, branches: Sequence[Branch], stem: str) -> Iterator[Line]:
        if branches:
            first, last = branches[0].facts["sequence_id"], branches[-1].facts["sequence_id"]
            yield self._line(f"{'':5} {stem}... {len(branches)} more spans, #{first} to #{last}: --full", "dim")

    def _branch(self, branch: Branch, stem: str, *, is_last: bool) -> "Iterator[_Item]":
        facts = branch.facts
        joint = "" if not branch.depth else "└ " if is_last else "├ "
        label = fitted(f"#{facts['sequence_id']:<4} {stem}{joint}{plain(name_of(facts))}", _LABEL)
        row = f"{label} {self._bar(facts)} {duration(facts.get('duration_seconds')):>8}  {plain(headline(facts))}"
        yield self._line(row.rstrip(), _style(facts))
        is_indented = 0 < branch.depth < _INDENTED
        below = stem + ("  " if is_last else "│ ") * is_indented
        rest = f"{'':5} {below}{'│ ' if branch.below else '  '}"
        for text in self._said_in(facts):
            yield from self._text(rest, text)
        if self._depth is not None and branch.depth >= self._depth and branch.below:
            yield self._line(f"{'':5} {below}└ ... {_told_below(branch)}: --depth {branch.depth + 1}", "dim")
        else:
            yield self._level(branch.below, below)

    def _bar(self, facts: Facts) -> str:
        if self._seconds <= 0 or "start_seconds" not in facts:
            return " " * _BAR
        begin = min(_BAR - 1, int(facts["start_seconds"] / self._seconds * _BAR))
        length = round(facts.get("duration_seconds", 0.0) / self._seconds * _BAR)
        bar = "▏" if not length else "█" * min(length, _BAR - begin)
        return (" " * begin + bar).ljust(_BAR)

    def _said_in(self, facts: Facts) -> Iterator[str]:
        """What was said in a span: of a conversation that goes on, only what is new."""
        yield from details(facts | {"messages": self._new(facts.get("messages", []))}, full=self._full)

    def _new(self, messages: list[Any]) -> list[Any]:
        before, self._said = self._said, messages or self._said
        if self._full or not before or [_words(m) for m in messages[: len(before)]] != [_words(m) for m in before]:
            return messages
        return [
            {"role": "...", "content": f"{counted(len(before), 'message')} as before"},
            *messages[len(before) :],
        ]

    def _text(self, stem: str, text: str) -> Iterator[Line]:
        lines = plain(text, keep_lines=True).splitlines() or [""]
        *before, last = lines if self._full else lines[:_TEXT_LINES]
        left = len(lines) - len(before) - 1
        end = f" ... {counted(left, 'more line')}: --full" if left else ""
        for line in before:
            yield self._line(stem + line, "dim")
        yield self._line(stem + (fitted(last, self._width - len(stem + end)).rstrip() if end else last) + end, "dim")

    def _line(self, text: str, style: Style) -> Line:
        return Line(text if self._full else fitted(text, self._width).rstrip(), style)


def name_of(facts: Facts) -> str:
    """What a span is called: an operation and a tool by their own names."""
    if operation := facts.get("operation"):
        return f"{operation}()"
    return str(facts["name"])


def headline(facts: Facts) -> str:
    """What is to be known of a span at once."""
    parts = []
    if "same_call_as" in facts:
        parts.append(f"the call of #{facts['same_call_as']}, recorded twice")
    elif "model" in facts:
        parts.append(f"{facts['model']}{_tokens(facts)}")
    parts += [f"reward {name} {value:g}" for name, value in facts.get("rewards", {}).items()]
    parts += [f"{name}={_as_text(value)}" for name, value in facts.get("attributes", {}).items()]
    if error := facts.get("error"):
        parts.append(f"error: {error}")
    return ", ".join(parts)


def details(facts: Facts, *, full: bool) -> Iterator[str]:
    """What was said in a span, a text each; of a stack trace the last place, or all."""
    for message in [*facts.get("messages", ()), *facts.get("answers", ())]:
        yield from _message(message)
    if tool := facts.get("tool"):
        yield f"{tool['name']}({tool['arguments']})"
    for name in ("input", "output", "message", "object", "stdout", "stderr"):
        if name in facts:
            yield f"{name}: {_as_text(facts[name])}"
    for exception in facts.get("exceptions", ()):
        yield f"{exception['type']}: {exception['message']}{_where(exception['stack_trace'], full=full)}"


def _message(message: Mapping[str, Any]) -> Iterator[str]:
    role = message.get("role", "?")
    if content := message.get("content"):
        yield f"{role}: {_as_text(content)}"
    for call in message.get("tool_calls") or ():
        function = call.get("function", call) if isinstance(call, dict) else call
        yield f"{role} calls {_called(function)}"


def _called(function: Any) -> str:
    if not isinstance(function, dict):  # what an instrumentation of its own kind wrote
        return _as_text(function)
    return f"{function.get('name', '?')}({_as_text(function.get('arguments', ''))})"


def _where(stack_trace: str, *, full: bool) -> str:
    lines = stack_trace.rstrip().splitlines()
    places = [line for line in lines if line.lstrip().startswith("File ")]
    return "".join(f"\n{line}" for line in (lines if full else places[-1:]))


def _words(message: Mapping[str, Any]) -> tuple[Any, Any]:
    return message.get("role"), message.get("content")


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value)


def _tokens(facts: Facts) -> str:
    asked, answered = facts.get("prompt_tokens"), facts.get("completion_tokens")
    return "" if asked is None and answered is None else f" {asked or 0} + {answered or 0} tokens"


def _is_kept(branch: Branch, place: int, count: int) -> bool:
    """Whether one of so many in a row is shown: the first and last are, and what holds a reward or an error."""
    is_outer = place < _FIRST or place >= count - _LAST or count <= _FIRST + _LAST + 1
    return is_outer or any(map(_is_notable, branch.all_below()))


def _readable_depth(trees: Sequence[Branch]) -> int | None:
    """The deepest level down to which the spans are not too many, and at least the second. None: there are no more."""
    rows, shown, depth = [trees], 0, 0
    while rows:
        kept = [branch for row in rows for place, branch in enumerate(row) if _is_kept(branch, place, len(row))]
        shown += len(kept)
        if shown > _MANY and depth > 1:
            return depth - 1
        rows, depth = [branch.below for branch in kept if branch.below], depth + 1
    return None


def _told_below(branch: Branch) -> str:
    _, *below = branch.all_below()
    notable = sum(map(_is_notable, below))
    return f"{counted(len(below), 'span')} below{f', {notable} with a reward or an error' if notable else ''}"


def _is_notable(branch: Branch) -> bool:
    return any(name in branch.facts for name in ("rewards", "error", "exceptions"))


def _style(facts: Facts) -> Style:
    if "error" in facts or "exceptions" in facts:
        return "red"
    return "green" if "rewards" in facts else "cyan" if "model" in facts else ""


def _end(branch: Branch) -> float:
    return float(branch.facts.get("start_seconds", 0.0) + branch.facts.get("duration_seconds", 0.0))
