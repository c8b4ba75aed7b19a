"""What an agent returns, recorded in the trace of its attempt. Knows emitters and traces, and no store."""

from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat

from opentelemetry.sdk.trace import ReadableSpan

from agentlightning.emitter import emit_reward
from agentlightning.emitter.emit import qualified_name
from agentlightning.errors import AgentError
from agentlightning.tracer.attempt import AttemptTrace
from agentlightning.types import Span, SpanCoreFields


def record_result(result: Any, attempt: AttemptTrace) -> None:
    """Record what the agent returned; to be called while the attempt's root span is current.

    Raises:
        AgentError: When it is neither None, a number, named numbers nor a list of spans.
        ValueError: When a number is not finite, or no number is named.
    """
    match result:
        case None:
            pass
        case list() | tuple():
            _record_spans(result, attempt)
        case Span() | ReadableSpan():
            _record_spans([result], attempt)
        case Mapping():
            emit_reward({name: _number(value, result) for name, value in result.items()})
        case _:
            emit_reward(_number(result, result))


def _number(value: Any, result: Any) -> float:
    """The number that a value is, numpy's included; a text is none, nor is an array of several."""
    try:
        if isinstance(value, SupportsFloat) and not isinstance(value, str | bytes):
            return float(value)
    except Exception as error:
        raise _refused(result) from error
    raise _refused(result)


def _refused(result: Any) -> AgentError:
    return AgentError(
        f"the agent returned {_shown(result)}; it may return a number, numbers by name, a list of spans, or None when "
        "it emits its rewards"
    )


def _record_spans(spans: Sequence[Any], attempt: AttemptTrace) -> None:
    recorded = {span.span_id for span in attempt.spans}
    for span in [_as_span(span) for span in spans]:
        if span.span_id not in recorded:
            ids = {"rollout_id": attempt.rollout_id, "attempt_id": attempt.attempt_id}
            attempt.add(span.model_copy(update={**ids, "sequence_id": attempt.next_sequence_id()}))


def _as_span(span: Any) -> Span:
    match span:
        case Span():
            return span
        case ReadableSpan():
            return Span.from_opentelemetry(span, rollout_id="", attempt_id="", sequence_id=0)
        case SpanCoreFields():
            return Span.from_core_fields(span)
        case _:
            raise AgentError(f"the agent returned a list with {_shown(span)}; a list may hold spans alone")


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({qualified_name(type(value))})"
