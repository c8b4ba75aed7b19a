"""OpenTelemetry's spans as ours. Knows both models and nothing of who makes or wants them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext as OtelSpanContext
from opentelemetry.trace import format_span_id, format_trace_id

from agentlightning.types import Event, Link, OtelResource, Span, SpanContext, TraceStatus
from agentlightning.types.span import SpanKind

_INT64 = range(-(2**63), 2**63)
_KINDS = frozenset(get_args(SpanKind))


def from_opentelemetry(span: ReadableSpan, *, rollout_id: str, attempt_id: str, sequence_id: int) -> Span:
    """Our span of an OpenTelemetry span that has ended."""
    context = _context(span.context)
    return Span(
        rollout_id=rollout_id,
        attempt_id=attempt_id,
        sequence_id=sequence_id,
        trace_id=context.trace_id,
        span_id=context.span_id,
        parent_id=format_span_id(span.parent.span_id) if span.parent else None,
        name=span.name,
        kind=cast(SpanKind, span.kind.name if span.kind.name in _KINDS else "UNSPECIFIED"),
        status=TraceStatus.model_validate(
            {"status_code": span.status.status_code.name, "description": span.status.description}
        ),
        attributes=_attributes(span.attributes),
        events=[
            Event(name=event.name, attributes=_attributes(event.attributes), timestamp=event.timestamp / 1e9)
            for event in span.events
        ],
        links=[Link(context=_context(link.context), attributes=_attributes(link.attributes)) for link in span.links],
        start_time=span.start_time and span.start_time / 1e9,
        end_time=span.end_time and span.end_time / 1e9,
        context=context,
        parent=_context(span.parent) if span.parent else None,
        resource=OtelResource(
            attributes=_attributes(span.resource.attributes), schema_url=span.resource.schema_url or ""
        ),
    )


def _context(context: OtelSpanContext) -> SpanContext:
    return SpanContext(
        trace_id=format_trace_id(context.trace_id),
        span_id=format_span_id(context.span_id),
        is_remote=context.is_remote,
        trace_state=dict(context.trace_state),
    )


def _attributes(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {_value(key): _value(value) for key, value in (attributes or {}).items()}


def _value(value: Any) -> Any:
    """The value as the store accepts it: a span must not be lost for a NaN or half a surrogate pair in it."""
    match value:
        case str():
            return value.encode(errors="replace").decode()
        case bool() | bytes() | None:
            return value
        case int():
            return value if value in _INT64 else str(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case Mapping():
            return _attributes(value)
        case Sequence():
            return [_value(item) for item in value]
        case _:
            return str(value)
