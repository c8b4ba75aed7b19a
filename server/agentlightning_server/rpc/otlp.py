"""Our spans to and from OpenTelemetry's wire format, without loss. Pure translation."""

from collections.abc import Iterable, Iterator

from agentlightning.semconv import ATTEMPT_ID, ROLLOUT_ID, SPAN_SEQUENCE_ID
from agentlightning.v1 import span_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2 as otlp

from agentlightning_server.rpc.validation import MAX_SEQUENCE_ID

_GIGA = 1_000_000_000


def spans_of(message: otlp.ResourceSpans) -> Iterator[pb.Span]:
    """The spans of one resource, with the identity that their attributes or their resource's give them."""
    resource = _resource(message.resource, message.schema_url)
    for scope_spans in message.scope_spans:
        scope = _scope(scope_spans.scope, scope_spans.schema_url)
        for span in scope_spans.spans:
            yield identified(from_otlp(span, scope, resource))


def from_otlp(span: otlp.Span, scope: pb.SpanScope, resource: pb.SpanResource) -> pb.Span:
    """One span of OTLP as ours."""
    return pb.Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex(),
        trace_state=span.trace_state,
        flags=span.flags,
        name=span.name,
        kind=span.kind,  # type: ignore[arg-type]  # the numbers are OpenTelemetry's
        start_time=_time(span.start_time_unix_nano),
        end_time=_time(span.end_time_unix_nano),
        status=pb.SpanStatus(code=span.status.code, message=span.status.message),  # type: ignore[arg-type]
        attributes=map(_attribute, span.attributes),
        dropped_attributes_count=span.dropped_attributes_count,
        events=[
            pb.SpanEvent(
                time=_time(event.time_unix_nano),
                name=event.name,
                attributes=map(_attribute, event.attributes),
                dropped_attributes_count=event.dropped_attributes_count,
            )
            for event in span.events
        ],
        dropped_events_count=span.dropped_events_count,
        links=[
            pb.SpanLink(
                trace_id=link.trace_id.hex(),
                span_id=link.span_id.hex(),
                trace_state=link.trace_state,
                flags=link.flags,
                attributes=map(_attribute, link.attributes),
                dropped_attributes_count=link.dropped_attributes_count,
            )
            for link in span.links
        ],
        dropped_links_count=span.dropped_links_count,
        scope=scope,
        resource=resource,
    )


def to_otlp(span: pb.Span) -> otlp.ResourceSpans:
    """One of our spans as OTLP has it, with its scope and resource."""
    message = otlp.Span(
        trace_id=bytes.fromhex(span.trace_id),
        span_id=bytes.fromhex(span.span_id),
        parent_span_id=bytes.fromhex(span.parent_span_id),
        trace_state=span.trace_state,
        flags=span.flags,
        name=span.name,
        kind=span.kind,  # type: ignore[arg-type]
        start_time_unix_nano=_nanos(span.start_time),
        end_time_unix_nano=_nanos(span.end_time),
        status=otlp.Status(code=span.status.code, message=span.status.message),  # type: ignore[arg-type]
        attributes=map(_key_value, span.attributes),
        dropped_attributes_count=span.dropped_attributes_count,
        events=[
            otlp.Span.Event(
                time_unix_nano=_nanos(event.time),
                name=event.name,
                attributes=map(_key_value, event.attributes),
                dropped_attributes_count=event.dropped_attributes_count,
            )
            for event in span.events
        ],
        dropped_events_count=span.dropped_events_count,
        links=[
            otlp.Span.Link(
                trace_id=bytes.fromhex(link.trace_id),
                span_id=bytes.fromhex(link.span_id),
                trace_state=link.trace_state,
                flags=link.flags,
                attributes=map(_key_value, link.attributes),
                dropped_attributes_count=link.dropped_attributes_count,
            )
            for link in span.links
        ],
        dropped_links_count=span.dropped_links_count,
    )
    scope = InstrumentationScope(
        name=span.scope.name,
        version=span.scope.version,
        attributes=map(_key_value, span.scope.attributes),
        dropped_attributes_count=span.scope.dropped_attributes_count,
    )
    resource = Resource(
        attributes=map(_key_value, span.resource.attributes),
        dropped_attributes_count=span.resource.dropped_attributes_count,
    )
    return otlp.ResourceSpans(
        resource=resource,
        scope_spans=[otlp.ScopeSpans(scope=scope, spans=[message], schema_url=span.scope.schema_url)],
        schema_url=span.resource.schema_url,
    )


def identified(span: pb.Span) -> pb.Span:
    """The span with the rollout, attempt and place that its attributes name, or else its resource's."""
    names = {attribute.key: attribute.value for attribute in (*span.resource.attributes, *span.attributes)}
    span.rollout_id = span.rollout_id or _text(names.get(ROLLOUT_ID))
    span.attempt_id = span.attempt_id or _text(names.get(ATTEMPT_ID))
    sequence = _text(names.get(SPAN_SEQUENCE_ID))
    span.sequence_id = int(sequence) if sequence.isdecimal() and int(sequence) <= MAX_SEQUENCE_ID else 0
    return span


def _resource(resource: Resource, schema_url: str) -> pb.SpanResource:
    return pb.SpanResource(
        attributes=map(_attribute, resource.attributes),
        dropped_attributes_count=resource.dropped_attributes_count,
        schema_url=schema_url,
    )


def _scope(scope: InstrumentationScope, schema_url: str) -> pb.SpanScope:
    return pb.SpanScope(
        name=scope.name,
        version=scope.version,
        attributes=map(_attribute, scope.attributes),
        dropped_attributes_count=scope.dropped_attributes_count,
        schema_url=schema_url,
    )


def _attribute(pair: KeyValue) -> pb.Attribute:
    return pb.Attribute(key=pair.key, value=_value(pair.value))


def _key_value(attribute: pb.Attribute) -> KeyValue:
    return KeyValue(key=attribute.key, value=_any_value(attribute.value))


def _value(value: AnyValue) -> pb.AttributeValue:
    match value.WhichOneof("value"):
        case None | "string_value_strindex":  # the latter is for profiles, and empty in a span
            return pb.AttributeValue()
        case "array_value":
            return pb.AttributeValue(list_value=pb.AttributeList(values=map(_value, value.array_value.values)))
        case "kvlist_value":
            return pb.AttributeValue(map_value=pb.AttributeMap(entries=map(_attribute, value.kvlist_value.values)))
        case kind:
            return pb.AttributeValue(**{kind: getattr(value, kind)})


def _any_value(value: pb.AttributeValue) -> AnyValue:
    match value.WhichOneof("value"):
        case None:
            return AnyValue()
        case "list_value":
            return AnyValue(array_value=ArrayValue(values=_any_values(value.list_value.values)))
        case "map_value":
            return AnyValue(kvlist_value=KeyValueList(values=map(_key_value, value.map_value.entries)))
        case kind:
            return AnyValue(**{kind: getattr(value, kind)})


def _any_values(values: Iterable[pb.AttributeValue]) -> list[AnyValue]:
    return [_any_value(value) for value in values]


def _text(value: pb.AttributeValue | None) -> str:
    if value is None:
        return ""
    return str(value.int_value) if value.WhichOneof("value") == "int_value" else value.string_value


def _time(nanos: int) -> Timestamp | None:
    return Timestamp(seconds=nanos // _GIGA, nanos=nanos % _GIGA) if nanos else None


def _nanos(time: Timestamp) -> int:
    return time.seconds * _GIGA + time.nanos
