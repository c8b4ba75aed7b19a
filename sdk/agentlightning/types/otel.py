"""OpenTelemetry's spans as plain data in our words. Knows neither library nor model: what looks like a span is one."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

_INT64 = range(-(2**63), 2**63)
_KINDS = frozenset({"INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"})
_HAS_IS_REMOTE, _IS_REMOTE = 0x100, 0x200
_LAST_SECOND = 1e12
"""A time after this many seconds is in nanoseconds."""


def span_fields(span: "ReadableSpan") -> dict[str, Any]:
    """The fields of our span that an OpenTelemetry span which has ended can fill."""
    own = span.get_span_context()
    context = _context(own)
    parent = _context(span.parent) if span.parent else None
    return {
        "trace_id": context["trace_id"],
        "span_id": context["span_id"],
        "parent_id": parent and parent["span_id"],
        "flags": _flags(own, span.parent),
        "name": span.name,
        "kind": span.kind.name if span.kind.name in _KINDS else "UNSPECIFIED",
        "status": {"status_code": span.status.status_code.name, "description": span.status.description},
        "attributes": _attributes(span.attributes),
        "dropped_attributes_count": _count(span, "dropped_attributes"),
        "events": [_event(event) for event in span.events],
        "dropped_events_count": _count(span, "dropped_events"),
        "links": [_link(link) for link in span.links],
        "dropped_links_count": _count(span, "dropped_links"),
        "start_time": _seconds(span.start_time),
        "end_time": _seconds(span.end_time),
        "context": context,
        "parent": parent,
        "scope": _scope(getattr(span, "instrumentation_scope", None)),
        "resource": {
            "attributes": _attributes(span.resource.attributes),
            "schema_url": span.resource.schema_url or "",
        },
    }


def _context(context: Any) -> dict[str, Any]:
    return {
        "trace_id": f"{context.trace_id if context else 0:032x}",
        "span_id": f"{context.span_id if context else 0:016x}",
        "is_remote": bool(context and context.is_remote),
        "trace_state": dict(context.trace_state) if context else {},
    }


def _flags(context: Any, parent: Any = None) -> int:
    """The flags as OTLP has them: the trace's own, and whether the parent is of another process."""
    remote = _IS_REMOTE if parent and parent.is_remote else 0
    return _count(context, "trace_flags") | _HAS_IS_REMOTE | remote


def _event(event: Any) -> dict[str, Any]:
    return {
        "name": event.name,
        "attributes": _attributes(event.attributes),
        "timestamp": _seconds(event.timestamp),
        "dropped_attributes_count": _count(event, "dropped_attributes"),
    }


def _link(link: Any) -> dict[str, Any]:
    return {
        "context": _context(link.context),
        "attributes": _attributes(link.attributes),
        "flags": _flags(link.context, link.context),
        "dropped_attributes_count": _count(link, "dropped_attributes"),
    }


def _scope(scope: Any) -> dict[str, Any] | None:
    if scope is None or not isinstance(scope.name, str):
        return None
    return {
        "name": scope.name,
        "version": scope.version or "",
        "attributes": _attributes(getattr(scope, "attributes", None)),
        "schema_url": scope.schema_url or "",
    }


def _seconds(time: float | None) -> float | None:
    if not time:
        return None
    return time / 1e9 if time > _LAST_SECOND else float(time)


def _count(source: Any, name: str) -> int:
    """A whole number of something, 0 where it has none: older versions and test doubles may not."""
    number = getattr(source, name, 0)
    return int(number) if isinstance(number, int) else 0


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
