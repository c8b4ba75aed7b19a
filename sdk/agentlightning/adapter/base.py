"""What turns the record of a rollout into what an algorithm learns from. Knows spans, and nothing of who made them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from agentlightning.types import Span

From = TypeVar("From")
To = TypeVar("To")


class Adapter(ABC, Generic[From, To]):
    """Turns one thing into another; calling it is `adapt`."""

    @abstractmethod
    def adapt(self, source: From, /) -> To:
        """Turn it."""

    def __call__(self, source: From, /) -> To:
        """Turn it."""
        return self.adapt(source)


class TraceAdapter(Adapter[Sequence[Span], To]):
    """Turns the spans of a rollout into something."""
