"""Spans to and from the protocol's messages, without loss but for a time's last digits. Pure translation."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

from google.protobuf.message import DecodeError
from pydantic import BaseModel, TypeAdapter, ValidationError

from agentlightning.errors import InvalidRequestError
from agentlightning.semconv import EXTRA_FIELDS
from agentlightning.store.convert import enum_name, optional_seconds, timestamp, to_json
from agentlightning.types import (
    Event,
    InstrumentationScope,
    Link,
    OtelResource,
    Span,
    SpanContext,
    TraceStatus,
)
from agentlightning.types.span import SpanKind
from agentlightning.v1 import span_pb2

M = TypeVar("M", bound=BaseModel)

_STATUS_CODES = {
    "UNSET": span_pb2.SpanStatusCode.SPAN_STATUS_CODE_UNSPECIFIED,
    "OK": span_pb2.SpanStatusCode.SPAN_STATUS_CODE_OK,
    "ERROR": span_pb2.SpanStatusCode.SPAN_STATUS_CODE_ERROR,
}
_Extra = TypeAdapter(dict[str, dict[str, Any]])
_IS_REMOTE, _SAYS_REMOTE = 0x200, 0x300
"""In OTLP's flags: the parent's process is another one, and the bit that makes that one count."""


def span_to_proto(span: Span) -> span_pb2.Span:
    """A span as the wire has it.

    Raises:
        InvalidRequestError: It has a value that the wire cannot take; the message names the span and the field.
    """
    try:
        return _span_to_proto(span)
    except InvalidRequestError as error:
        raise invalid_span(span, str(error)) from None
    except (TypeError, ValueError, OverflowError, RecursionError, DecodeError) as error:  # what protobuf does not take
        raise invalid_span(span, str(error)) from error


def invalid_span(span: Span, why: str) -> InvalidRequestError:
    """A span that cannot be sent."""
    message = f"span {span.name!r} ({span.span_id}): {why}"
    return InvalidRequestError(message, code="INVALID_ARGUMENT", reason="FIELD_INVALID")


def span_from_proto(message: span_pb2.Span) -> Span:
    """A span."""
    attributes, extra = _split(message.attributes)
    trace_state = _trace_state(message.trace_state)
    context = {"trace_id": message.trace_id, "span_id": message.span_id, "trace_state": trace_state}
    parent = context | {"span_id": message.parent_span_id, "is_remote": bool(message.flags & _IS_REMOTE)}
    return _with_extra(
        Span,
        extra.get("span"),
        rollout_id=message.rollout_id,
        attempt_id=message.attempt_id,
        sequence_id=message.sequence_id,
        trace_id=message.trace_id,
        span_id=message.span_id,
        parent_id=message.parent_span_id or None,
        flags=message.flags,
        name=message.name,
        kind=cast(SpanKind, enum_name(span_pb2.SpanKind, "SPAN_KIND_", message.kind).upper()),
        status=_status_from_proto(message.status, extra.get("status")),
        attributes=attributes,
        dropped_attributes_count=message.dropped_attributes_count,
        events=[_event_from_proto(event) for event in message.events],
        dropped_events_count=message.dropped_events_count,
        links=[_link_from_proto(link) for link in message.links],
        dropped_links_count=message.dropped_links_count,
        start_time=optional_seconds(message, "start_time"),
        end_time=optional_seconds(message, "end_time"),
        context=_with_extra(SpanContext, extra.get("context"), **context),
        parent=_with_extra(SpanContext, extra.get("parent"), **parent) if message.parent_span_id else None,
        scope=_scope_from_proto(message.scope) if message.HasField("scope") else None,
        resource=OtelResource(
            attributes=_attributes_from_proto(message.resource.attributes),
            dropped_attributes_count=message.resource.dropped_attributes_count,
            schema_url=message.resource.schema_url,
        ),
    )


def _span_to_proto(span: Span) -> span_pb2.Span:
    parent, resource = span.parent, span.resource
    return span_pb2.Span(
        rollout_id=span.rollout_id,
        attempt_id=span.attempt_id,
        sequence_id=span.sequence_id,
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_id or (parent.span_id if parent else ""),
        trace_state=_header(span.context.trace_state) if span.context else "",
        flags=span.flags | (_SAYS_REMOTE if parent and parent.is_remote else 0),
        name=span.name,
        kind=span_pb2.SpanKind.Value(f"SPAN_KIND_{span.kind}"),
        start_time=timestamp("start_time", span.start_time),
        end_time=timestamp("end_time", span.end_time),
        status=span_pb2.SpanStatus(code=_STATUS_CODES[span.status.status_code], message=span.status.description or ""),
        attributes=_attributes_to_proto(span.attributes)
        + _extra(span=span, status=span.status, context=span.context, parent=parent),
        dropped_attributes_count=span.dropped_attributes_count,
        events=map(_event_to_proto, span.events),
        dropped_events_count=span.dropped_events_count,
        links=map(_link_to_proto, span.links),
        dropped_links_count=span.dropped_links_count,
        scope=None if span.scope is None else _scope_to_proto(span.scope),
        resource=span_pb2.SpanResource(
            attributes=_attributes_to_proto(resource.attributes),
            dropped_attributes_count=resource.dropped_attributes_count,
            schema_url=resource.schema_url,
        ),
    )


def _event_to_proto(event: Event) -> span_pb2.SpanEvent:
    return span_pb2.SpanEvent(
        time=timestamp("event.timestamp", event.timestamp),
        name=event.name,
        attributes=_attributes_to_proto(event.attributes) + _extra(event=event),
        dropped_attributes_count=event.dropped_attributes_count,
    )


def _event_from_proto(message: span_pb2.SpanEvent) -> Event:
    attributes, extra = _split(message.attributes)
    return _with_extra(
        Event,
        extra.get("event"),
        name=message.name,
        attributes=attributes,
        timestamp=optional_seconds(message, "time"),
        dropped_attributes_count=message.dropped_attributes_count,
    )


def _link_to_proto(link: Link) -> span_pb2.SpanLink:
    return span_pb2.SpanLink(
        trace_id=link.context.trace_id,
        span_id=link.context.span_id,
        trace_state=_header(link.context.trace_state),
        flags=link.flags | (_SAYS_REMOTE if link.context.is_remote else 0),
        attributes=_attributes_to_proto(link.attributes or {}) + _extra(link=link, context=link.context),
        dropped_attributes_count=link.dropped_attributes_count,
    )


def _link_from_proto(message: span_pb2.SpanLink) -> Link:
    attributes, extra = _split(message.attributes)
    context = _with_extra(
        SpanContext,
        extra.get("context"),
        trace_id=message.trace_id,
        span_id=message.span_id,
        is_remote=bool(message.flags & _IS_REMOTE),
        trace_state=_trace_state(message.trace_state),
    )
    return _with_extra(
        Link,
        extra.get("link"),
        context=context,
        attributes=attributes,
        flags=message.flags,
        dropped_attributes_count=message.dropped_attributes_count,
    )


def _status_from_proto(message: span_pb2.SpanStatus, extra: dict[str, Any] | None) -> TraceStatus:
    code = enum_name(span_pb2.SpanStatusCode, "SPAN_STATUS_CODE_", message.code).upper()
    return _with_extra(
        TraceStatus,
        extra,
        status_code="UNSET" if code == "UNSPECIFIED" else code,
        description=message.message or None,
    )


def _scope_to_proto(scope: InstrumentationScope) -> span_pb2.SpanScope:
    return span_pb2.SpanScope(
        name=scope.name,
        version=scope.version,
        attributes=_attributes_to_proto(scope.attributes),
        dropped_attributes_count=scope.dropped_attributes_count,
        schema_url=scope.schema_url,
    )


def _scope_from_proto(message: span_pb2.SpanScope) -> InstrumentationScope:
    return InstrumentationScope(
        name=message.name,
        version=message.version,
        attributes=_attributes_from_proto(message.attributes),
        dropped_attributes_count=message.dropped_attributes_count,
        schema_url=message.schema_url,
    )


def _extra(**models: BaseModel | None) -> list[span_pb2.Attribute]:
    """The fields that the models do not know, as one attribute, or none."""
    extra = {name: model.model_extra for name, model in models.items() if model is not None and model.model_extra}
    return _attributes_to_proto({EXTRA_FIELDS: to_json("extra fields", extra)}) if extra else []


def _split(attributes: Iterable[span_pb2.Attribute]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The attributes, and the fields that the models do not know; what somebody else wrote in their place stays."""
    known = _attributes_from_proto(attributes)
    if EXTRA_FIELDS not in known:
        return known, {}
    try:
        extra = _Extra.validate_json(known[EXTRA_FIELDS])
    except ValidationError:
        return known, {}
    del known[EXTRA_FIELDS]
    return known, extra


def _with_extra(model: type[M], extra: dict[str, Any] | None, **fields: Any) -> M:
    return model(**{**(extra or {}), **fields})


def _header(trace_state: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in trace_state.items())


def _trace_state(header: str) -> dict[str, str]:
    entries = (entry.strip().partition("=") for entry in header.split(",") if entry.strip())
    return {key: value for key, _, value in entries}


def _attributes_to_proto(attributes: Mapping[str, Any]) -> list[span_pb2.Attribute]:
    return [span_pb2.Attribute(key=key, value=_value_to_proto(value)) for key, value in attributes.items()]


def _attributes_from_proto(attributes: Iterable[span_pb2.Attribute]) -> dict[str, Any]:
    return {attribute.key: _value_from_proto(attribute.value) for attribute in attributes}


def _value_to_proto(value: Any) -> span_pb2.AttributeValue:
    match value:
        case bool():
            return span_pb2.AttributeValue(bool_value=value)
        case int() if -(1 << 63) <= value < 1 << 63:
            return span_pb2.AttributeValue(int_value=value)
        case int() | float():
            return span_pb2.AttributeValue(double_value=float(value))
        case str():
            return span_pb2.AttributeValue(string_value=value)
        case bytes():
            return span_pb2.AttributeValue(bytes_value=value)
        case None:
            return span_pb2.AttributeValue()
        case Mapping():
            return span_pb2.AttributeValue(map_value=span_pb2.AttributeMap(entries=_attributes_to_proto(value)))
        case Sequence():
            values = [_value_to_proto(item) for item in value]
            return span_pb2.AttributeValue(list_value=span_pb2.AttributeList(values=values))
        case _:
            return span_pb2.AttributeValue(string_value=str(value))


def _value_from_proto(value: span_pb2.AttributeValue) -> Any:
    match value.WhichOneof("value"):
        case None:
            return None
        case "list_value":
            return [_value_from_proto(item) for item in value.list_value.values]
        case "map_value":
            return _attributes_from_proto(value.map_value.entries)
        case kind:
            return getattr(value, kind)
