"""Spans to and from the protocol's messages, without loss but for a time's last digits. Pure translation."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from sys import intern
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError

from agentlightning.errors import InvalidRequestError
from agentlightning.semconv import EXTRA_FIELDS
from agentlightning.store.convert import optional_seconds, set_timestamp, to_json
from agentlightning.types import (
    Event,
    InstrumentationScope,
    Link,
    OtelResource,
    Span,
)
from agentlightning.types.span import SpanKind
from agentlightning.v1 import span_pb2

if TYPE_CHECKING:
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

    _Attributes = RepeatedCompositeFieldContainer[span_pb2.Attribute]

_Fields = dict[str, Any]
"""What a model is made of."""
_STATUS_CODES = {
    "UNSET": span_pb2.SpanStatusCode.SPAN_STATUS_CODE_UNSPECIFIED,
    "OK": span_pb2.SpanStatusCode.SPAN_STATUS_CODE_OK,
    "ERROR": span_pb2.SpanStatusCode.SPAN_STATUS_CODE_ERROR,
}
_STATUS_NAMES = {code: name for name, code in _STATUS_CODES.items()}
_DROPPED = ("dropped_attributes_count", "dropped_events_count", "dropped_links_count")
_KINDS = {kind: span_pb2.SpanKind.Value(f"SPAN_KIND_{kind}") for kind in get_args(SpanKind)}
_KIND_NAMES = {number: kind for kind, number in _KINDS.items()}
_ROOM = 95
"""Protobuf reads a hundred messages within each other; around an attribute's value there are up to five."""
_Extra = TypeAdapter(dict[str, dict[str, Any]])
_IS_REMOTE, _SAYS_REMOTE = 0x200, 0x300
"""In OTLP's flags: the parent's process is another one, and the bit that makes that one count."""


def span_to_proto(span: Span) -> span_pb2.Span:
    """A span as the wire has it.

    Raises:
        InvalidRequestError: It has a value that the wire cannot take; the message names the span and the field.
    """
    message = span_pb2.Span()
    fill_span(message, span)
    return message


def fill_span(message: span_pb2.Span, span: Span) -> None:
    """Make an empty message a span's. One that is given to another message is copied by writing and reading it.

    Raises:
        InvalidRequestError: It has a value that the wire cannot take; the message names the span and the field.
    """
    try:
        _fill_span(message, span)
    except InvalidRequestError as error:
        raise invalid_span(span, str(error)) from None
    except (TypeError, ValueError, OverflowError) as error:  # what the generated classes do not take
        raise invalid_span(span, str(error)) from error


def invalid_span(span: Span, why: str) -> InvalidRequestError:
    """A span that cannot be sent."""
    message = f"span {span.name!r} ({span.span_id}): {why}"
    return InvalidRequestError(message, code="INVALID_ARGUMENT", reason="FIELD_INVALID")


def span_from_proto(message: span_pb2.Span) -> Span:
    """A span. What most spans do not have is looked at only where it is there.

    Texts that many spans have are kept once: memory that is touched for the first time is what reading costs most.
    """
    attributes, extra = _split(message.attributes)
    trace_id, flags, parent_id = message.trace_id, message.flags, message.parent_span_id
    context: _Fields = {"trace_id": trace_id, "span_id": message.span_id}
    if trace_state := message.trace_state:
        context["trace_state"] = _trace_state(trace_state)
    fields: _Fields = {
        "rollout_id": intern(message.rollout_id),
        "attempt_id": intern(message.attempt_id),
        "sequence_id": message.sequence_id,
        "trace_id": trace_id,
        "span_id": context["span_id"],
        "name": intern(message.name),
        "kind": _KIND_NAMES.get(message.kind, "UNSPECIFIED"),  # a newer store's kind is none here
        "start_time": optional_seconds(message, "start_time"),
        "end_time": optional_seconds(message, "end_time"),
        "attributes": attributes,
        "context": _with_extra(extra.get("context"), context),
        "status": _status_from_proto(message.status, extra.get("status")),
    }
    if flags:
        fields["flags"] = flags
    for name in _DROPPED:
        if count := getattr(message, name):
            fields[name] = count
    if parent_id:
        parent = context | {"span_id": parent_id, "is_remote": bool(flags & _IS_REMOTE)}
        fields |= {"parent_id": parent_id, "parent": _with_extra(extra.get("parent"), parent)}
    if message.events:
        fields["events"] = [_event_from_proto(event) for event in message.events]
    if message.links:
        fields["links"] = [_link_from_proto(link) for link in message.links]
    if message.HasField("scope"):
        fields["scope"] = _scope_from_proto(message.scope)
    if message.HasField("resource"):
        fields["resource"] = _resource_from_proto(message.resource)
    return Span.model_validate(_with_extra(extra.get("span"), fields))  # validated in one go, with all that is in it


def _fill_span(message: span_pb2.Span, span: Span) -> None:
    context, parent, status = span.context, span.parent, span.status
    message.rollout_id = span.rollout_id
    message.attempt_id = span.attempt_id
    message.sequence_id = span.sequence_id
    message.trace_id = span.trace_id
    message.span_id = span.span_id
    message.parent_span_id = span.parent_id or (parent.span_id if parent else "")
    message.trace_state = _header(context.trace_state) if context else ""
    message.flags = span.flags | (_SAYS_REMOTE if parent and parent.is_remote else 0)
    message.name = span.name
    message.kind = _KINDS[span.kind]
    message.dropped_attributes_count = span.dropped_attributes_count
    message.dropped_events_count = span.dropped_events_count
    message.dropped_links_count = span.dropped_links_count
    set_timestamp(message.start_time, "start_time", span.start_time)
    set_timestamp(message.end_time, "end_time", span.end_time)
    message.status.code = _STATUS_CODES[status.status_code]
    message.status.message = status.description or ""
    _add_attributes(message.attributes, span.attributes)
    _add_extra(message.attributes, span=span, status=status, context=context, parent=parent)
    for event in span.events:
        _fill_event(message.events.add(), event)
    for link in span.links:
        _fill_link(message.links.add(), link)
    if span.scope is not None:
        _fill_scope(message.scope, span.scope)
    resource = span.resource
    if resource.attributes or resource.schema_url or resource.dropped_attributes_count:
        _fill_resource(message.resource, resource)


def _fill_event(message: span_pb2.SpanEvent, event: Event) -> None:
    set_timestamp(message.time, "event.timestamp", event.timestamp)
    message.name = event.name
    message.dropped_attributes_count = event.dropped_attributes_count
    _add_attributes(message.attributes, event.attributes)
    _add_extra(message.attributes, event=event)


def _event_from_proto(message: span_pb2.SpanEvent) -> _Fields:
    attributes, extra = _split(message.attributes)
    fields = {
        "name": message.name,
        "attributes": attributes,
        "timestamp": optional_seconds(message, "time"),
        "dropped_attributes_count": message.dropped_attributes_count,
    }
    return _with_extra(extra.get("event"), fields)


def _fill_link(message: span_pb2.SpanLink, link: Link) -> None:
    message.trace_id = link.context.trace_id
    message.span_id = link.context.span_id
    message.trace_state = _header(link.context.trace_state)
    message.flags = link.flags | (_SAYS_REMOTE if link.context.is_remote else 0)
    message.dropped_attributes_count = link.dropped_attributes_count
    _add_attributes(message.attributes, link.attributes or {})
    _add_extra(message.attributes, link=link, context=link.context)


def _link_from_proto(message: span_pb2.SpanLink) -> _Fields:
    attributes, extra = _split(message.attributes)
    context = {
        "trace_id": message.trace_id,
        "span_id": message.span_id,
        "is_remote": bool(message.flags & _IS_REMOTE),
        "trace_state": _trace_state(message.trace_state),
    }
    fields = {
        "context": _with_extra(extra.get("context"), context),
        "attributes": attributes,
        "flags": message.flags,
        "dropped_attributes_count": message.dropped_attributes_count,
    }
    return _with_extra(extra.get("link"), fields)


def _status_from_proto(message: span_pb2.SpanStatus, extra: _Fields | None) -> _Fields:
    fields: _Fields = {"status_code": _STATUS_NAMES.get(message.code, "UNSET")}
    if message.message:
        fields["description"] = message.message
    return _with_extra(extra, fields)


def _fill_scope(message: span_pb2.SpanScope, scope: InstrumentationScope) -> None:
    message.name = scope.name
    message.version = scope.version
    message.dropped_attributes_count = scope.dropped_attributes_count
    message.schema_url = scope.schema_url
    _add_attributes(message.attributes, scope.attributes)


def _scope_from_proto(message: span_pb2.SpanScope) -> _Fields:
    return _Fields(
        name=message.name,
        version=message.version,
        attributes=_attributes_from_proto(message.attributes),
        dropped_attributes_count=message.dropped_attributes_count,
        schema_url=message.schema_url,
    )


def _fill_resource(message: span_pb2.SpanResource, resource: OtelResource) -> None:
    message.dropped_attributes_count = resource.dropped_attributes_count
    message.schema_url = resource.schema_url
    _add_attributes(message.attributes, resource.attributes)


def _resource_from_proto(message: span_pb2.SpanResource) -> _Fields:
    shared = _shared_resource(message.SerializeToString())
    return _resource_fields(message) if shared is None else shared


@lru_cache(maxsize=256)
def _shared_resource(serialised: bytes) -> _Fields | None:
    """What the spans of one process have in common; None where a change of one's would be a change of all."""
    fields = _resource_fields(span_pb2.SpanResource.FromString(serialised))
    return None if any(isinstance(value, (list, dict)) for value in fields["attributes"].values()) else fields


def _resource_fields(message: span_pb2.SpanResource) -> _Fields:
    return _Fields(
        attributes=_attributes_from_proto(message.attributes),
        dropped_attributes_count=message.dropped_attributes_count,
        schema_url=message.schema_url,
    )


def _add_extra(attributes: "_Attributes", **models: BaseModel | None) -> None:
    """Add the fields that the models do not know, as one attribute, if there are any."""
    extra = {name: model.model_extra for name, model in models.items() if model is not None and model.model_extra}
    if extra:
        _add_attributes(attributes, {EXTRA_FIELDS: to_json("extra fields", extra)})


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


def _with_extra(extra: _Fields | None, fields: _Fields) -> _Fields:
    return extra | fields if extra else fields


def _header(trace_state: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in trace_state.items())


def _trace_state(header: str) -> dict[str, str]:
    entries = (entry.strip().partition("=") for entry in header.split(",") if entry.strip())
    return {key: value for key, _, value in entries}


def _add_attributes(attributes: "_Attributes", values: Mapping[str, Any], room: int = _ROOM) -> None:
    for key, value in values.items():
        _set_value(attributes.add(key=key).value, value, room)


def _attributes_from_proto(attributes: Iterable[span_pb2.Attribute]) -> dict[str, Any]:
    return {intern(attribute.key): _value_from_proto(attribute.value) for attribute in attributes}


def _set_value(message: span_pb2.AttributeValue, value: Any, room: int) -> None:
    """Set an attribute's value, where so many messages have room in it."""
    match value:
        case str():
            message.string_value = value
        case bool():
            message.bool_value = value
        case int() if -(1 << 63) <= value < 1 << 63:
            message.int_value = value
        case int() | float():
            message.double_value = float(value)
        case bytes():
            message.bytes_value = value
        case None:
            message.SetInParent()
        case Mapping() | Sequence() if room < 3:
            raise ValueError("an attribute is nested too deep")
        case Mapping():
            message.map_value.SetInParent()
            _add_attributes(message.map_value.entries, value, room - 3)
        case Sequence():
            message.list_value.SetInParent()
            for item in value:
                _set_value(message.list_value.values.add(), item, room - 2)
        case _:
            message.string_value = str(value)


def _value_from_proto(value: span_pb2.AttributeValue) -> Any:
    match value.WhichOneof("value"):
        case "string_value":  # which most are
            return value.string_value
        case None:
            return None
        case "list_value":
            return [_value_from_proto(item) for item in value.list_value.values]
        case "map_value":
            return _attributes_from_proto(value.map_value.entries)
        case kind:
            return getattr(value, kind)
