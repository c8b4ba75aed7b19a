"""How the spans of a rollout lie in one another, as they say or as their times tell. Knows no calls and no rewards."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from agentlightning.types import Span


class Tree:
    """The spans of a rollout, attempt by attempt in their sequence, and who lies in whom.

    Spans whose parent is missing lie side by side.
    """

    def __init__(self, spans: Sequence[Span]) -> None:
        attempts = {attempt_id: place for place, attempt_id in enumerate(dict.fromkeys(s.attempt_id for s in spans))}
        self.spans = sorted(spans, key=lambda s: (attempts[s.attempt_id], s.sequence_id, s.start_time or 0.0))
        self._by_id = {span.span_id: span for span in self.spans}
        self._parents = {span.span_id: span.parent_id for span in self.spans}

    def above(self, span: Span) -> Iterator[Span]:
        """The spans that enclose a span, the nearest first."""
        seen = {span.span_id}
        up = self._parents[span.span_id]
        while up in self._by_id and up not in seen:
            seen.add(up)
            yield self._by_id[up]
            up = self._parents[up]

    def siblings(self, span: Span) -> list[Span]:
        """The spans beside a span, itself among them."""
        parent = self._parents[span.span_id]
        return [other for other in self.spans if self._parents[other.span_id] == parent]

    def repair(self, may_enclose: Callable[[Span], bool]) -> None:
        """Put each span that hangs directly under the root into the smallest span whose time encloses its own.

        Some instrumentations hang every span there. A root with a single child is passed over for that child.

        Args:
            may_enclose: Whether a span may be given children: calls that run at the same time enclose nothing.
        """
        hanging = {span.span_id for span in self._below_root()}
        open_spans: list[Span] = []
        for span in sorted(self.spans, key=lambda span: span.start_time or 0.0):
            open_spans = [other for other in open_spans if (other.end_time or 0.0) > (span.start_time or 0.0)]
            if span.span_id in hanging:
                wider = [other for other in open_spans if _encloses(other, span) and not self._is_above(span, other)]
                self._parents[span.span_id] = min(wider, key=_duration).span_id if wider else span.parent_id
            if may_enclose(span):
                open_spans.append(span)

    def _is_above(self, span: Span, other: Span) -> bool:
        return any(around is span for around in self.above(other))

    def _below_root(self) -> list[Span]:
        below = defaultdict(list)
        for span in self.spans:
            below[self._parents[span.span_id] if self._parents[span.span_id] in self._by_id else None].append(span)
        level = below[None]
        while len(level) == 1:
            level = below[level[0].span_id]
        return level


def _encloses(outer: Span, inner: Span) -> bool:
    if outer.attempt_id != inner.attempt_id:
        return False
    if outer.start_time is None or outer.end_time is None or inner.start_time is None or inner.end_time is None:
        return False
    return outer.start_time < inner.start_time and inner.end_time < outer.end_time


def _duration(span: Span) -> float:
    return (span.end_time or 0.0) - (span.start_time or 0.0)
