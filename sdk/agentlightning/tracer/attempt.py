"""The record of one attempt while it runs, and how code finds the one it belongs to. Knows no store."""

import itertools
from collections.abc import Callable
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context

from agentlightning.tracer.duplicates import ModelCalls
from agentlightning.types import Span

_ATTEMPT: Final = otel_context.create_key("agentlightning-attempt")

Deliver = Callable[[Span], None]
"""Given each span as it ends, in whatever thread that is; it must neither block nor raise."""


class AttemptTrace:
    """One attempt: who it is, the numbers of its spans, and the spans that have ended.

    Attributes:
        rollout_id: The rollout, empty when the trace belongs to none.
        attempt_id: The attempt, empty when the trace belongs to none.
        root: The span of the whole attempt.
        unfinished: How many spans were still open when the attempt ended, and so were not recorded.
        model_calls: The calls of models, so that each is one span.
    """

    root: trace.Span

    def __init__(
        self, rollout_id: str, attempt_id: str, *, next_sequence_id: int = 1, deliver: Deliver | None = None
    ) -> None:
        self.rollout_id = rollout_id
        self.attempt_id = attempt_id
        self.unfinished = 0
        self.ended = False
        self.model_calls = ModelCalls()
        self._numbers = itertools.count(next_sequence_id)
        self._spans: list[Span] = []
        self._deliver = deliver

    @property
    def spans(self) -> list[Span]:
        """The spans that have ended, in the order they were started."""
        return sorted(self._spans, key=lambda span: span.sequence_id)

    def next_sequence_id(self) -> int:
        """The number of the next span; never the same twice, in any thread."""
        return next(self._numbers)

    def add(self, span: Span) -> None:
        """Take a span that has ended."""
        self._spans.append(span)
        if self._deliver:
            self._deliver(span)


def attempt_of(context: Context | None) -> AttemptTrace | None:
    """The attempt that a context belongs to: the current context, or a given one."""
    attempt = otel_context.get_value(_ATTEMPT, context)
    return attempt if isinstance(attempt, AttemptTrace) else None


def with_attempt(attempt: AttemptTrace, context: Context) -> Context:
    """A context that belongs to an attempt."""
    return otel_context.set_value(_ATTEMPT, attempt, context)
