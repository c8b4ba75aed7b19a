"""On the wire and back: nothing of a span is lost but what floats cannot say of a time; newer stores are understood."""

from collections.abc import Callable
from typing import Any

import pytest
from agentlightning.errors import InvalidRequestError
from agentlightning.store.convert import assignment_from_proto
from agentlightning.store.spans import span_from_proto, span_to_proto
from agentlightning.types import Event, OtelResource, Span
from agentlightning.v1 import attempt_pb2, rollout_pb2
from agentlightning.v1.span_pb2 import (
    Attribute,
    AttributeList,
    AttributeMap,
    AttributeValue,
    SpanEvent,
    SpanKind,
    SpanLink,
    SpanResource,
    SpanScope,
    SpanStatus,
)
from agentlightning.v1.span_pb2 import Span as ProtoSpan
from agentlightning.v1.store_service_pb2 import AddSpansRequest
from google.protobuf.timestamp_pb2 import Timestamp

EMPTY = AttributeValue()
VALUES = [
    AttributeValue(string_value="text"),
    AttributeValue(bool_value=True),
    AttributeValue(int_value=-(2**63)),
    AttributeValue(double_value=1.0),
    AttributeValue(bytes_value=b"\xff"),
    AttributeValue(list_value=AttributeList(values=[AttributeValue(int_value=1), EMPTY])),
    AttributeValue(map_value=AttributeMap(entries=[Attribute(key="k", value=EMPTY)])),
    EMPTY,
]
ATTRIBUTES = [Attribute(key=f"k{number}", value=value) for number, value in enumerate(VALUES)]


def a_span(**fields: Any) -> ProtoSpan:
    """A span with every field of the message set."""
    known: dict[str, Any] = {
        "rollout_id": "ro-1",
        "attempt_id": "at-1",
        "sequence_id": 3,
        "trace_id": "1" * 32,
        "span_id": "2" * 16,
        "parent_span_id": "3" * 16,
        "trace_state": "a=1,b=2",
        "flags": 0x301,
        "name": "work",
        "kind": SpanKind.SPAN_KIND_CLIENT,
        "start_time": Timestamp(seconds=1_700_000_000, nanos=500_000_000),
        "end_time": Timestamp(seconds=1_700_000_001, nanos=250_000_000),
        "status": SpanStatus(code=2, message="no room"),
        "attributes": ATTRIBUTES,
        "dropped_attributes_count": 1,
        "events": [SpanEvent(time=Timestamp(seconds=5), name="e", attributes=ATTRIBUTES, dropped_attributes_count=2)],
        "dropped_events_count": 3,
        "links": [
            SpanLink(
                trace_id="4" * 32,
                span_id="5" * 16,
                trace_state="c=3",
                flags=0x300,
                attributes=ATTRIBUTES,
                dropped_attributes_count=4,
            )
        ],
        "dropped_links_count": 5,
        "scope": SpanScope(
            name="s", version="1", attributes=ATTRIBUTES, dropped_attributes_count=6, schema_url="http://scope"
        ),
        "resource": SpanResource(attributes=ATTRIBUTES, dropped_attributes_count=7, schema_url="http://resource"),
    }
    return ProtoSpan(**{**known, **fields})


def test_the_span_of_these_tests_has_every_field() -> None:
    assert {field.name for field, _ in a_span().ListFields()} == set(ProtoSpan.DESCRIPTOR.fields_by_name)


def test_a_span_comes_back_as_it_was() -> None:
    assert span_to_proto(span_from_proto(a_span())) == a_span()


@pytest.mark.parametrize("field", ProtoSpan.DESCRIPTOR.fields_by_name)
def test_a_span_that_lacks_something_comes_back_without_it(field: str) -> None:
    span = a_span()
    span.ClearField(field)  # type: ignore[arg-type]
    read = span_to_proto(span_from_proto(span))
    assert getattr(read, field) == getattr(span, field)


def test_the_model_tells_what_the_message_says() -> None:
    span = span_from_proto(a_span())
    assert (span.parent_id, span.kind, span.start_time) == ("3" * 16, "CLIENT", 1_700_000_000.5)
    assert span.context is not None
    assert span.context.trace_state == {"a": "1", "b": "2"}
    assert span.parent is not None
    assert span.parent.is_remote
    assert span.links[0].context.is_remote
    assert (span.status.status_code, span.status.description) == ("ERROR", "no room")
    assert span.attributes["k5"] == [1, None]


def test_a_remote_parent_is_said_by_the_flags() -> None:
    span = Span.from_attributes(attributes={}, parent_id="3" * 16)
    span.parent = span_from_proto(a_span()).parent
    assert span_to_proto(span).flags == 0x300


def test_a_number_beyond_64_bits_is_told_as_one_that_is_near() -> None:
    read = span_from_proto(span_to_proto(Span.from_attributes(attributes={"n": 2**64})))
    assert read.attributes == {"n": float(2**64)}


def test_the_first_moment_of_all_is_a_time() -> None:
    assert span_from_proto(span_to_proto(Span.from_attributes(attributes={}, start_time=0))).start_time == 0


@pytest.mark.parametrize("level", [lambda inner: [inner], lambda inner: {"k": inner}], ids=["lists", "maps"])
def test_what_can_be_written_can_be_read(level: Callable[[Any], Any]) -> None:
    value: Any = "deep"
    with pytest.raises(InvalidRequestError, match="nested too deep"):
        while True:
            event = Event(name="e", attributes={"x": value})
            request = AddSpansRequest(
                spans=[span_to_proto(Span.from_attributes(attributes={}).model_copy(update={"events": [event]}))]
            )
            assert AddSpansRequest.FromString(request.SerializeToString()) == request
            value = level(value)


@pytest.mark.parametrize("value", ["python", ["python", "-m", "agent"], {"name": "python"}], ids=type)
def test_a_change_of_one_spans_resource_is_none_of_anothers(value: Any) -> None:
    sent = span_to_proto(Span.from_attributes(attributes={}, resource=OtelResource(attributes={"runtime": value})))
    one, other = span_from_proto(sent), span_from_proto(sent)
    match one.resource.attributes["runtime"]:
        case list() as runtime:
            runtime.append("more")
        case dict() as runtime:
            runtime["version"] = 3
        case _:
            one.resource.attributes["runtime"] = "another"
    assert other.resource.attributes == {"runtime": value}


def test_what_a_newer_store_says_of_an_assignment_and_this_version_has_no_word_for_is_unspecified_or_left_out() -> None:
    newer: Any = 99
    config = rollout_pb2.RolloutConfig(
        retry_condition=[newer, attempt_pb2.ATTEMPT_STATUS_FAILED],
        retry_policies=[
            rollout_pb2.RetryPolicy(kind=newer),
            rollout_pb2.RetryPolicy(kind=attempt_pb2.FAILURE_KIND_AGENT),
        ],
    )
    message = rollout_pb2.Assignment(
        rollout=rollout_pb2.Rollout(rollout_id="ro-1", input_json="1", status=newer, mode=newer, config=config),
        attempt=attempt_pb2.Attempt(rollout_id="ro-1", attempt_id="at-1", status=newer),
    )
    assigned = assignment_from_proto(message)
    assert (assigned.status, assigned.attempt.status, assigned.mode) == ("unspecified", "unspecified", None)
    assert assigned.config.retry_condition == ["failed"]
    assert [policy.kind for policy in assigned.config.retry_policies] == ["agent"]
