"""What turns the record of a rollout into what an algorithm learns from. Knows spans, and nothing of who made them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from agentlightning.types import Span

From = TypeVar("From")
To = TypeVar("To")


class Adapter(ABC, Generic[From, To]):
    """Turns one thing into another; calling it is `adapt`.

    Example:
        >>> from agentlightning import Adapter
        >>> class Upper(Adapter[str, str]):
        ...     def adapt(self, text):
        ...         return text.upper()
        >>> Upper()("hi")
        'HI'
    """

    @abstractmethod
    def adapt(self, source: From, /) -> To:
        """Turn it."""

    def __call__(self, source: From, /) -> To:
        """Turn it."""
        return self.adapt(source)


class TraceAdapter(Adapter[Sequence[Span], To]):
    """Turns the spans of a rollout into something.

    Example:
        >>> from agentlightning import Span, TraceAdapter
        >>> class Count(TraceAdapter[int]):
        ...     def adapt(self, spans):
        ...         return len(spans)
        >>> Count()([Span.from_attributes(attributes={})])
        1
    """
