"""Our spans and OTLP's say the same: whatever is translated comes back as it was, either way round."""

from typing import Any

import pytest
from agentlightning.semconv import ATTEMPT_ID, ROLLOUT_ID, SPAN_SEQUENCE_ID
from agentlightning.v1 import span_pb2 as pb
from agentlightning_server.rpc.otlp import from_otlp, identified, spans_of, to_otlp
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1 import common_pb2 as common
from opentelemetry.proto.resource.v1 import resource_pb2 as resource
from opentelemetry.proto.trace.v1 import trace_pb2 as otlp

GIGA = 1_000_000_000
NOT_CARRIED = {
    "AnyValue.string_value_strindex": "of profiles only, says OTLP; receivers of spans take it as empty",
    "KeyValue.key_strindex": "of profiles only, says OTLP",
    "Resource.entity_refs": "still being developed, says OTLP; names keys of attributes that are all carried",
}

text = st.text(max_size=8)
uint32 = st.integers(0, 2**32 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)
nanos = st.integers(0, 2**64 - 1)
trace_ids = st.binary(min_size=16, max_size=16)
span_ids = st.binary(min_size=8, max_size=8)
parent_ids = st.just(b"") | span_ids
thorough = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def messages(kind: Any, /, **fields: Any) -> st.SearchStrategy[Any]:
    return st.builds(kind, **fields)


def a_few(elements: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(elements, max_size=3)


# OTLP's messages, with the wrappers present that say nothing by being there.
def _any_values(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    pairs = messages(common.KeyValue, key=text, value=inner)
    return messages(common.AnyValue, array_value=messages(common.ArrayValue, values=a_few(inner))) | messages(
        common.AnyValue, kvlist_value=messages(common.KeyValueList, values=a_few(pairs))
    )


any_values = st.recursive(
    messages(common.AnyValue)
    | messages(common.AnyValue, string_value=text)
    | messages(common.AnyValue, bool_value=st.booleans())
    | messages(common.AnyValue, int_value=int64)
    | messages(common.AnyValue, double_value=st.floats())
    | messages(common.AnyValue, bytes_value=st.binary(max_size=8)),
    _any_values,
    max_leaves=6,
)
pairs = a_few(messages(common.KeyValue, key=text, value=any_values))
otlp_spans = messages(
    otlp.Span,
    trace_id=trace_ids,
    span_id=span_ids,
    parent_span_id=parent_ids,
    trace_state=text,
    flags=uint32,
    name=text,
    kind=st.integers(0, 5),
    start_time_unix_nano=nanos,
    end_time_unix_nano=nanos,
    attributes=pairs,
    dropped_attributes_count=uint32,
    events=a_few(
        messages(otlp.Span.Event, time_unix_nano=nanos, name=text, attributes=pairs, dropped_attributes_count=uint32)
    ),
    dropped_events_count=uint32,
    links=a_few(
        messages(
            otlp.Span.Link,
            trace_id=trace_ids,
            span_id=span_ids,
            trace_state=text,
            attributes=pairs,
            dropped_attributes_count=uint32,
            flags=uint32,
        )
    ),
    dropped_links_count=uint32,
    status=messages(otlp.Status, message=text, code=st.integers(0, 2)),
)
scopes = messages(
    common.InstrumentationScope, name=text, version=text, attributes=pairs, dropped_attributes_count=uint32
)
resources = messages(resource.Resource, attributes=pairs, dropped_attributes_count=uint32)


# Ours: a time is absent or after 1970 began, which in OTLP is the same as no time.
def _values(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    entries = messages(pb.Attribute, key=text, value=inner)
    return messages(pb.AttributeValue, list_value=messages(pb.AttributeList, values=a_few(inner))) | messages(
        pb.AttributeValue, map_value=messages(pb.AttributeMap, entries=a_few(entries))
    )


values = st.recursive(
    messages(pb.AttributeValue)
    | messages(pb.AttributeValue, string_value=text)
    | messages(pb.AttributeValue, bool_value=st.booleans())
    | messages(pb.AttributeValue, int_value=int64)
    | messages(pb.AttributeValue, double_value=st.floats())
    | messages(pb.AttributeValue, bytes_value=st.binary(max_size=8)),
    _values,
    max_leaves=6,
)
attributes = a_few(messages(pb.Attribute, key=text, value=values))
times = st.none() | st.integers(1, 2**64 - 1).map(lambda time: Timestamp(seconds=time // GIGA, nanos=time % GIGA))
our_spans = messages(
    pb.Span,
    trace_id=trace_ids.map(bytes.hex),
    span_id=span_ids.map(bytes.hex),
    parent_span_id=parent_ids.map(bytes.hex),
    trace_state=text,
    flags=uint32,
    name=text,
    kind=st.integers(0, 5),
    start_time=times,
    end_time=times,
    status=messages(pb.SpanStatus, code=st.integers(0, 2), message=text),
    attributes=attributes,
    dropped_attributes_count=uint32,
    events=a_few(messages(pb.SpanEvent, time=times, name=text, attributes=attributes, dropped_attributes_count=uint32)),
    dropped_events_count=uint32,
    links=a_few(
        messages(
            pb.SpanLink,
            trace_id=trace_ids.map(bytes.hex),
            span_id=span_ids.map(bytes.hex),
            trace_state=text,
            flags=uint32,
            attributes=attributes,
            dropped_attributes_count=uint32,
        )
    ),
    dropped_links_count=uint32,
    scope=messages(
        pb.SpanScope,
        name=text,
        version=text,
        attributes=attributes,
        dropped_attributes_count=uint32,
        schema_url=text,
    ),
    resource=messages(pb.SpanResource, attributes=attributes, dropped_attributes_count=uint32, schema_url=text),
)


def wire(message: Message) -> bytes:
    """A message as bytes: unlike messages themselves, bytes know NaN from NaN and -0.0 from 0.0."""
    return message.SerializeToString(deterministic=True)


def translated_back(message: otlp.ResourceSpans) -> pb.Span:
    """The one span of a message as ours, without looking for its identity."""
    [scope_spans] = message.scope_spans
    [span] = scope_spans.spans
    [ours] = spans_of(message)
    return from_otlp(span, ours.scope, ours.resource)


def one(span: pb.Span) -> pb.Span:
    [back] = spans_of(to_otlp(span))
    return back


def string(key: str, value: str) -> pb.Attribute:
    return pb.Attribute(key=key, value=pb.AttributeValue(string_value=value))


@thorough
@given(span=our_spans)
def test_our_span_comes_back_from_otlp_as_it_was(span: pb.Span) -> None:
    assert wire(translated_back(to_otlp(span))) == wire(span)


@thorough
@given(span=otlp_spans, scope=scopes, of=resources, scope_schema=text, resource_schema=text)
def test_a_span_of_otlp_comes_back_from_ours_as_it_was(
    span: otlp.Span,
    scope: common.InstrumentationScope,
    of: resource.Resource,
    scope_schema: str,
    resource_schema: str,
) -> None:
    message = otlp.ResourceSpans(
        resource=of,
        scope_spans=[otlp.ScopeSpans(scope=scope, spans=[span], schema_url=scope_schema)],
        schema_url=resource_schema,
    )
    assert wire(to_otlp(translated_back(message))) == wire(message)


@thorough
@given(spans=a_few(our_spans))
def test_many_spans_of_many_scopes_keep_their_own_scope_and_order(spans: list[pb.Span]) -> None:
    together = otlp.ResourceSpans(scope_spans=[to_otlp(span).scope_spans[0] for span in spans])
    read = list(spans_of(together))
    assert [wire(span.scope) for span in read] == [wire(span.scope) for span in spans]
    assert [span.span_id for span in read] == [span.span_id for span in spans]


@pytest.mark.parametrize(
    "kind",
    [
        otlp.ResourceSpans,
        otlp.ScopeSpans,
        otlp.Span,
        otlp.Span.Event,
        otlp.Span.Link,
        otlp.Status,
        common.AnyValue,
        common.KeyValue,
        common.InstrumentationScope,
        resource.Resource,
    ],
    ids=lambda kind: kind.DESCRIPTOR.name,
)
def test_a_field_that_otlp_gains_is_carried_or_named_here(kind: Any) -> None:
    """The messages above are built of every field there is: a release of OTLP with a new one needs a person."""
    built: dict[str, Any] = {
        "ResourceSpans": ["resource", "scope_spans", "schema_url"],
        "ScopeSpans": ["scope", "spans", "schema_url"],
        "Span": [
            *("trace_id", "span_id", "trace_state", "parent_span_id", "flags", "name", "kind", "start_time_unix_nano"),
            *("end_time_unix_nano", "attributes", "dropped_attributes_count", "events", "dropped_events_count"),
            *("links", "dropped_links_count", "status"),
        ],
        "Event": ["time_unix_nano", "name", "attributes", "dropped_attributes_count"],
        "Link": ["trace_id", "span_id", "trace_state", "attributes", "dropped_attributes_count", "flags"],
        "Status": ["message", "code"],
        "AnyValue": [
            *("string_value", "bool_value", "int_value", "double_value", "array_value", "kvlist_value", "bytes_value")
        ],
        "KeyValue": ["key", "value"],
        "InstrumentationScope": ["name", "version", "attributes", "dropped_attributes_count"],
        "Resource": ["attributes", "dropped_attributes_count"],
    }
    descriptor: Descriptor = kind.DESCRIPTOR
    fields = {field.name for field in descriptor.fields if f"{descriptor.name}.{field.name}" not in NOT_CARRIED}
    assert fields == set(built[descriptor.name])


@pytest.mark.skipif(
    "string_value_strindex" not in common.AnyValue.DESCRIPTOR.fields_by_name, reason="an OTLP without profiles"
)
def test_a_value_that_only_profiles_may_have_is_taken_as_empty() -> None:
    """OTLP: receivers of other signals 'process the data as if this value were absent or empty'."""
    fields: dict[str, Any] = {"string_value_strindex": 3}
    span = otlp.Span(attributes=[common.KeyValue(key="k", value=common.AnyValue(**fields))])
    ours = from_otlp(span, pb.SpanScope(), pb.SpanResource())
    assert list(ours.attributes) == [pb.Attribute(key="k", value=pb.AttributeValue())]


@pytest.mark.parametrize("place", ["span", "resource"])
def test_identity_is_read_from_the_attributes_of(place: str) -> None:
    names = [string(ROLLOUT_ID, "ro-1"), string(ATTEMPT_ID, "at-1"), string(SPAN_SEQUENCE_ID, "7")]
    span = pb.Span(attributes=names) if place == "span" else pb.Span(resource=pb.SpanResource(attributes=names))
    found = one(span)
    assert (found.rollout_id, found.attempt_id, found.sequence_id) == ("ro-1", "at-1", 7)


def test_the_spans_own_identity_goes_before_its_resources() -> None:
    of = pb.SpanResource(attributes=[string(ROLLOUT_ID, "ro-of-resource"), string(ATTEMPT_ID, "at-of-resource")])
    found = one(pb.Span(attributes=[string(ROLLOUT_ID, "ro-own")], resource=of))
    assert (found.rollout_id, found.attempt_id) == ("ro-own", "at-of-resource")


def test_a_sequence_number_may_be_an_integer() -> None:
    number = pb.Attribute(key=SPAN_SEQUENCE_ID, value=pb.AttributeValue(int_value=7))
    assert one(pb.Span(attributes=[number])).sequence_id == 7


@given(
    attribute=st.builds(pb.Attribute, key=st.sampled_from([ROLLOUT_ID, ATTEMPT_ID, SPAN_SEQUENCE_ID]), value=values)
    | st.builds(
        string,
        st.just(SPAN_SEQUENCE_ID),
        st.text() | st.integers().map(str) | st.integers(0, 50).map(lambda digits: "9" * digits),
    )
)
@thorough
def test_whatever_stands_where_identity_should_a_span_is_still_translated(attribute: pb.Attribute) -> None:
    span = identified(pb.Span(attributes=[attribute]))
    assert wire(span.attributes[0]) == wire(attribute)
