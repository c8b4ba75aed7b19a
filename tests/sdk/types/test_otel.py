"""OpenTelemetry's spans as ours, real ones and what only looks like one."""

from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from agentlightning.types import Span
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

TRACER = TracerProvider(
    resource=Resource({"service.name": "rooms"}, "http://schema"), shutdown_on_exit=False
).get_tracer("t")
KEEPS_BYTES = "key" in BoundedAttributes(attributes={"key": b"\xff"})  # newer releases of OpenTelemetry do


def converted(span: ReadableSpan) -> Span:
    return Span.from_opentelemetry(span, rollout_id="ro-1", attempt_id="at-1", sequence_id=5)


def a_span(**options) -> Span:
    span = TRACER.start_span("work", **options)
    span.end()
    return converted(span)


def look_alike(**fields) -> Mock:
    """A test double that knows no more than a span needs."""
    context = SimpleNamespace(trace_id=1, span_id=2, is_remote=False, trace_state={})
    double = Mock()
    known = {
        "name": "work",
        "get_span_context": lambda: context,
        "parent": None,
        "status": SimpleNamespace(status_code=SimpleNamespace(name="OK"), description=None),
        "attributes": {"a": 1},
        "events": [],
        "links": [],
        "start_time": 1_700_000_001_500_000_000,
        "end_time": None,
        "resource": SimpleNamespace(attributes={}, schema_url=""),
    }
    for name, value in {**known, **fields}.items():
        setattr(double, name, value)
    return double


def test_ids_are_hex() -> None:
    parent = TRACER.start_span("parent")
    span = a_span(context=set_span_in_context(parent))
    assert span.parent_id == f"{parent.get_span_context().span_id:016x}"
    assert span.trace_id == f"{parent.get_span_context().trace_id:032x}"
    assert len(span.span_id) == 16
    assert (span.rollout_id, span.attempt_id, span.sequence_id) == ("ro-1", "at-1", 5)


def test_times_are_in_seconds() -> None:
    span = TRACER.start_span("work", start_time=1_700_000_001_500_000_000)
    span.add_event("event", {"a": 1}, timestamp=1_700_000_002_000_000_000)
    span.end(1_700_000_002_500_000_000)
    assert (converted(span).start_time, converted(span).end_time) == (1_700_000_001.5, 1_700_000_002.5)
    assert (converted(span).events[0].timestamp, converted(span).events[0].attributes) == (1_700_000_002.0, {"a": 1})


@pytest.mark.parametrize(("time", "seconds"), [(None, None), (0, None), (1_700_000_001.5, 1_700_000_001.5)])
def test_a_time_that_is_in_seconds_already_stays(time, seconds) -> None:
    assert converted(look_alike(start_time=time)).start_time == seconds


def test_what_only_looks_like_a_span_is_one() -> None:
    span = converted(look_alike())
    assert (span.name, span.status.status_code, span.attributes) == ("work", "OK", {"a": 1})
    assert (span.trace_id, span.span_id, span.scope) == (f"{1:032x}", f"{2:016x}", None)


def test_a_span_without_a_context_has_ids_of_zeros() -> None:
    span = converted(look_alike(get_span_context=lambda: None))
    assert (span.trace_id, span.span_id) == ("0" * 32, "0" * 16)


def test_the_instrumentation_and_what_was_dropped_are_kept() -> None:
    span = converted(
        look_alike(
            instrumentation_scope=SimpleNamespace(name="openai", version="1.2", schema_url=None),
            dropped_attributes=3,
        )
    )
    assert span.scope is not None
    assert (span.scope.name, span.scope.version, span.dropped_attributes_count) == ("openai", "1.2", 3)


@pytest.mark.parametrize(("is_remote", "flags"), [(False, 0x101), (True, 0x301)])
def test_the_flags_say_whether_the_parent_is_remote(is_remote: bool, flags: int) -> None:
    context = SpanContext(1, 2, is_remote=is_remote, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    span = TRACER.start_span("work", context=set_span_in_context(NonRecordingSpan(context)))
    span.end()
    assert converted(span).flags == flags


def test_kind_and_status_are_names() -> None:
    span = TRACER.start_span("work", kind=SpanKind.CLIENT)
    span.set_status(Status(StatusCode.ERROR, "no room"))
    span.end()
    assert (converted(span).kind, converted(span).status.status_code) == ("CLIENT", "ERROR")
    assert converted(span).status.description == "no room"


def test_links_name_their_spans() -> None:
    context = SpanContext(1, 2, is_remote=True, trace_state=TraceState([("a", "b")]))
    (link,) = a_span(links=[Link(context, {"why": "because"})]).links
    assert (link.context.trace_id, link.context.span_id) == (f"{1:032x}", f"{2:016x}")
    assert (link.context.trace_state, link.attributes) == ({"a": "b"}, {"why": "because"})


def test_the_resource_is_kept() -> None:
    resource = a_span().resource
    assert (resource.attributes, resource.schema_url) == ({"service.name": "rooms"}, "http://schema")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", "text"),
        (True, True),
        (2**63, str(2**63)),
        (float("nan"), "nan"),
        ([1.0, float("inf")], [1.0, "inf"]),
        pytest.param(b"\xff", b"\xff", marks=pytest.mark.skipif(not KEEPS_BYTES, reason="OpenTelemetry drops them")),
        ("half \ud83d", "half ?"),
    ],
)
def test_a_value_that_the_store_would_refuse_becomes_text(value, expected) -> None:
    assert a_span(attributes={"key": value}).attributes == {"key": expected}
