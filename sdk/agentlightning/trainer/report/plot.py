"""Plots as SVG: a staircase of the best so far over dots, an interval, columns. Knows numbers and labels, no runs.

Colours are classes of the page's stylesheet. A plot is one image to a screen reader, described in a sentence; what it
shows stands in a table or a list beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from agentlightning.trainer.report.markup import Markup, joined, tag

_WIDTH, _HEIGHT = 720.0, 300.0
_LABEL = 64.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 28.0, 32.0, 48.0


@dataclass(frozen=True)
class Dot:
    """Something at a place.

    Attributes:
        kind: `tried`, `dropped` or `best`: how it is drawn.
        parent: Where a line to it comes from.
    """

    x: float
    y: float
    label: str
    kind: str = "tried"
    parent: tuple[float, float] | None = None


@dataclass(frozen=True)
class Steps:
    """What was the best from each place on.

    Attributes:
        corners: Where it changes, in order; the last is where it ends.
        labels: What is written at each.
    """

    corners: Sequence[tuple[float, float]]
    labels: Sequence[str]


@dataclass(frozen=True)
class Axis:
    """One direction of a plot: where it begins and ends, and the numbers written at it."""

    title: str
    low: float
    high: float
    ticks: Sequence[float]

    def share(self, value: float) -> float:
        """How far along a value is, from 0 to 1."""
        return (value - self.low) / (self.high - self.low)

    def written(self, value: float) -> str:
        """A number at the axis, in the digits that tell it from the next."""
        step = self.ticks[1] - self.ticks[0]
        return f"{value:,.{max(0, -floor(log10(step) + 1e-9))}f}"


def axis(title: str, values: Sequence[float], ticks: int = 5) -> Axis:
    """An axis for such values, which begins and ends at round numbers."""
    low, high = min(values), max(values)
    if high - low < 1e-9 * max(1.0, abs(low)):
        low, high = low - 0.5, high + 0.5
    step = _round_step((high - low) / ticks)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    marks = [number * step for number in range(first, last + 1)]
    return Axis(title, marks[0], marks[-1], marks)


def search(name: str, description: str, x_title: str, steps: Steps, dots: Sequence[Dot] = ()) -> Markup:
    """Scores over what was spent: the best so far as a staircase, each candidate a dot with a line from its parent."""
    places = [*steps.corners, *((dot.x, dot.y) for dot in dots)]
    frame = _Frame(axis(x_title, [0.0, *(x for x, _ in places)]), axis("score", [y for _, y in places]))
    lines = [frame.line((dot.parent, (dot.x, dot.y)), "link") for dot in dots if dot.parent]
    marks = [frame.dot(dot) for dot in dots]
    stairs = [frame.line(_stairs(steps.corners), "stairs")] if steps.corners else []
    return _image(name, description, _HEIGHT, [*frame.axes(), *lines, *stairs, *marks, *_labels(frame, steps)])


def interval(name: str, description: str, low: float, middle: float, high: float) -> Markup:
    """A difference and how sure it is, beside no difference at all."""
    height = 96.0
    frame = _Frame(axis("difference", [0.0, low, high]), Axis("", -1.0, 1.0, ()), height)
    bar = frame.line(((low, 0.0), (high, 0.0)), "interval")
    ends = [frame.line(((end, -0.5), (end, 0.5)), "interval") for end in (low, high)]
    zero = frame.line(((0.0, -1.0), (0.0, 1.0)), "zero")
    return _image(name, description, height, [*frame.axes(), zero, bar, *ends, frame.dot(Dot(middle, 0.0, "", "best"))])


def columns(name: str, description: str, values: Sequence[float]) -> Markup:
    """Changes one beside the other, from the worst to the best."""
    height, ordered = 180.0, sorted(values)
    frame = _Frame(Axis("", 0.0, float(len(values)), ()), axis("change", [0.0, *values], ticks=4), height)
    bars = [frame.column(place, value) for place, value in enumerate(ordered)]
    zero = frame.line(((0.0, 0.0), (float(len(values)), 0.0)), "zero")
    return _image(name, description, height, [*frame.axes(), *bars, zero])


@dataclass(frozen=True)
class _Frame:
    """Where on the paper a value is."""

    x_axis: Axis
    y_axis: Axis
    height: float = _HEIGHT

    def x(self, value: float) -> float:
        return _LEFT + self.x_axis.share(value) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return self.height - _BOTTOM - self.y_axis.share(value) * (self.height - _TOP - _BOTTOM)

    def axes(self) -> list[Markup]:
        bottom = self.height - _BOTTOM
        across = [_line(_LEFT, self.y(tick), _WIDTH - _RIGHT, self.y(tick), "grid") for tick in self.y_axis.ticks]
        up = [_line(self.x(tick), bottom, self.x(tick), bottom + 4, "grid") for tick in self.x_axis.ticks]
        below = [_text(self.x(tick), bottom + 18, self.x_axis.written(tick), "middle") for tick in self.x_axis.ticks]
        beside = [_text(_LEFT - 8, self.y(tick) + 4, self.y_axis.written(tick), "end") for tick in self.y_axis.ticks]
        titles = [
            _text((_LEFT + _WIDTH - _RIGHT) / 2, self.height - 8, self.x_axis.title, "middle"),
            _text(4.0, 12.0, self.y_axis.title, "start"),
        ]
        return [*across, *up, *below, *beside, *titles]

    def line(self, places: Sequence[tuple[float, float]], kind: str) -> Markup:
        told = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in places)
        return tag("polyline", points=told, class_=kind, fill="none", stroke="currentColor")

    def dot(self, dot: Dot) -> Markup:
        radius = 6 if dot.kind == "best" else 4
        return tag("circle", tag("title", dot.label), cx=self.x(dot.x), cy=self.y(dot.y), r=radius, class_=dot.kind)

    def label(self, x: float, y: float, text: str) -> Markup:
        return _text(self.x(x), self.y(y) - 10, text, "end" if self.x_axis.share(x) > 0.9 else "middle", "label")

    def column(self, place: int, value: float) -> Markup:
        top, bottom = self.y(max(value, 0.0)), self.y(min(value, 0.0))
        width = max(0.5, 0.8 * (self.x(1.0) - self.x(0.0)))
        kind = "better" if value > 0 else "worse"
        return tag("rect", x=self.x(float(place)), y=top, width=width, height=max(bottom - top, 0.0), class_=kind)


def _image(name: str, description: str, height: float, parts: Sequence[Markup]) -> Markup:
    titles = joined(tag("title", description, id=f"{name}-title"))
    box = f"0 0 {_WIDTH:.0f} {height:.0f}"
    return tag("svg", titles, parts, viewBox=box, role="img", aria_labelledby=f"{name}-title", class_="plot")


def _labels(frame: _Frame, steps: Steps) -> list[Markup]:
    """What is written at the corners, without those that would stand on the one after them."""
    labels: list[Markup] = []
    free = _WIDTH
    for (x, y), label in reversed([*zip(steps.corners, steps.labels, strict=True)]):
        if label and frame.x(x) <= free:
            labels.append(frame.label(x, y, label))
            free = frame.x(x) - _LABEL
    return labels


def _stairs(corners: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    stairs = [corners[0]]
    for x, y in corners[1:]:
        stairs += [(x, stairs[-1][1]), (x, y)]
    return stairs


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind, stroke="currentColor")


def _text(x: float, y: float, text: str, anchor: str, kind: str | None = None) -> Markup:
    return tag("text", text, x=x, y=y, text_anchor=anchor, class_=kind)


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5, 10, 20, ... that is no less."""
    size: float = 10.0 ** floor(log10(least))
    return next(factor * size for factor in (1, 2, 5, 10) if factor * size >= least * (1 - 1e-9))
