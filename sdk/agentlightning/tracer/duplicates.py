"""One span for one call of a model, though another instrumentor saw it too: the tracer's own, which has it whole.

The other's span is dropped. It may stand around ours, inside it or, where instrumentors listen to callbacks, beside it:
then the id of the answer tells that both are of the same call. Knows attributes, and no instrumentor.
"""

from collections.abc import Hashable, Mapping
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

OWN_SCOPE: Final = "agentlightning"
"""The instrumentation scope of the tracer's own spans; those of kind `CLIENT` are calls of models."""
LITELLM_SCOPE: Final = "agentlightning.litellm"
"""That of its calls through LiteLLM, which stand around those that LiteLLM makes through another package."""

_OPERATIONS: Final = frozenset({"chat", "text_completion", "generate_content", "embeddings", "response", "responses"})
_OLDER_KEYS: Final = ("gen_ai.prompt.", "gen_ai.request.", "llm.")


class ModelCalls:
    """The calls of models within one attempt, and which spans of others stand for the same ones.

    It is decided as spans end, when they have their attributes: a span is dropped that stands around or inside one of
    ours, or that ends after one of ours with the same answer.
    """

    def __init__(self) -> None:
        self._own: set[int] = set()
        self._inside: set[int] = set()  # spans of others that began inside one of ours
        self._open: dict[int, ReadableSpan] = {}  # spans that may be dropped
        self._dropped: dict[int, int | None] = {}  # and what their children are children of instead
        self._answers: set[Hashable] = set()

    def start(self, span: ReadableSpan) -> None:
        """Note a span that starts."""
        if _scope(span) != OWN_SCOPE:
            self._open[_id(span)] = span
        if _is_own_call(span):
            self._own.add(_id(span))
            self._drop_around(span)
        elif self._own and not _is_own(span) and (_parent_id(span) in self._own or _parent_id(span) in self._inside):
            self._inside.add(_id(span))

    def end(self, span: ReadableSpan) -> bool:
        """Note a span that ends.

        Returns:
            Whether it is to be kept; false when one of ours stands for the same call.
        """
        self._open.pop(_id(span), None)
        if not self._own:
            return True
        if _is_own_call(span):
            self._answers.add(_answer(span))
            self._drop_around(span)
        elif not _is_own(span) and self._is_duplicate(span):
            self._dropped[_id(span)] = _parent_id(span)
        return _id(span) not in self._dropped

    def parent_id(self, span: ReadableSpan) -> int | None:
        """The id of a span's parent, or of the nearest that is kept."""
        parent_id = _parent_id(span)
        while self._own and parent_id is not None:
            if parent_id in self._dropped:
                parent_id = self._dropped[parent_id]
            elif (parent := self._open.get(parent_id)) and parent_id in self._inside and _is_model_call(parent):
                parent_id = _parent_id(parent)  # which will be dropped when it ends
            else:
                break
        return parent_id

    def _drop_around(self, span: ReadableSpan) -> None:
        parent = self._open.get(_parent_id(span) or 0)
        while parent and _is_model_call(parent):
            self._dropped[_id(parent)] = _parent_id(parent)
            parent = self._open.get(_parent_id(parent) or 0)

    def _is_duplicate(self, span: ReadableSpan) -> bool:
        return _is_model_call(span) and (_id(span) in self._inside or _answer(span) in self._answers)


def _scope(span: ReadableSpan) -> str:
    return span.instrumentation_scope.name if span.instrumentation_scope else ""


def _is_own(span: ReadableSpan) -> bool:
    return _scope(span) in (OWN_SCOPE, LITELLM_SCOPE)


def _is_own_call(span: ReadableSpan) -> bool:
    return span.kind is SpanKind.CLIENT and _is_own(span)


def _is_model_call(span: ReadableSpan) -> bool:
    attributes: Mapping[str, Any] = span.attributes or {}
    if "gen_ai.operation.name" in attributes:
        return attributes["gen_ai.operation.name"] in _OPERATIONS
    if "openinference.span.kind" in attributes:
        return attributes["openinference.span.kind"] in ("LLM", "EMBEDDING")
    return any(key.startswith(_OLDER_KEYS) for key in attributes)


def _answer(span: ReadableSpan) -> Hashable:
    """What two spans of the same call have in common: the answer's id or, if it failed, the model and the place."""
    attributes: Mapping[str, Any] = span.attributes or {}
    if span.status.status_code is StatusCode.ERROR:
        return "failed", attributes.get("gen_ai.request.model"), _parent_id(span)
    return attributes.get("gen_ai.response.id") or object()  # an answer without an id is like no other


def _id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    return context.span_id if context else 0


def _parent_id(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None
