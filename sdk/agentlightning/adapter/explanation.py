"""Why each call of a model became data or did not. What decides is an adapter's; this is how it answers for it."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from agentlightning.adapter.base import TraceAdapter
from agentlightning.errors import EmptyTrainingDataError
from agentlightning.types import Span

Item = TypeVar("Item")


@dataclass(frozen=True)
class Explanation(Generic[Item]):
    """What became of one call of a model.

    Attributes:
        span: The call's span.
        reason: Why it was dropped, or what it was used for.
        item: What it became. None: it was dropped.

    Example:
        >>> from agentlightning import Explanation, Span
        >>> span = Span.from_attributes(attributes={}, name="chat gpt-4", sequence_id=3)
        >>> print(Explanation(span, "no answer was recorded"))
        dropped  #3 chat gpt-4: no answer was recorded
    """

    span: Span
    reason: str
    item: Item | None = None

    @property
    def used(self) -> bool:
        """Whether it became data."""
        return self.item is not None

    def __str__(self) -> str:
        model = self.span.attributes.get("gen_ai.request.model")
        name = f"{self.span.name} {model}" if model and str(model) not in self.span.name.split() else self.span.name
        return f"{'used   ' if self.used else 'dropped'}  #{self.span.sequence_id} {name}: {self.reason}"


class LLMCallAdapter(TraceAdapter[list[Item]]):
    """Turns the calls of models in a rollout into a list of data, and can say why each call is in it or is not.

    A subclass writes `explain`; what `adapt` gives follows from that, so the two cannot differ.

    Example:
        >>> from agentlightning import Explanation, LLMCallAdapter, Span
        >>> class Names(LLMCallAdapter[str]):
        ...     def explain(self, spans):
        ...         return [Explanation(span, "it has a name", span.name) for span in spans]
        >>> Names().adapt([Span.from_attributes(attributes={}, name="chat")])
        ['chat']
    """

    @abstractmethod
    def explain(self, spans: Sequence[Span], /) -> list[Explanation[Item]]:
        """Say of each call of a model what became of it."""

    def adapt(self, spans: Sequence[Span], /) -> list[Item]:
        """The data, in the order of the calls; empty when no call gives any."""
        return [explanation.item for explanation in self.explain(spans) if explanation.item is not None]

    def require(self, spans: Sequence[Span], /) -> list[Item]:
        """The data, of which there must be some.

        Raises:
            EmptyTrainingDataError: There is none; the message says why.

        Example:
            >>> from agentlightning import TraceToMessages
            >>> TraceToMessages().require([])
            Traceback (most recent call last):
            ...
            agentlightning.errors.EmptyTrainingDataError: TraceToMessages has nothing to learn from: no spans were ...
        """
        explanations = self.explain(spans)
        if not any(explanation.used for explanation in explanations):
            raise EmptyTrainingDataError(f"{type(self).__name__} has nothing to learn from: {why(explanations, spans)}")
        return [explanation.item for explanation in explanations if explanation.item is not None]


def why(explanations: Sequence[Explanation[Item]], spans: Sequence[Span]) -> str:
    """Why there is no data, in a sentence that names the way out."""
    if not spans:
        return "no spans were recorded; was the agent run under a tracer, and is this the attempt that ran it?"
    if not explanations:
        return (
            f"none of the {len(spans)} spans is a call of a model; call it inside the rollout, by a client that is "
            "instrumented, or record spans with the gen_ai attributes"
        )
    reasons = Counter(explanation.reason for explanation in explanations)
    return "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common())
