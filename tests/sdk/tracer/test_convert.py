import pytest
from agentlightning.tracer.convert import from_opentelemetry
from agentlightning.types import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceState, set_span_in_context

TRACER = TracerProvider(
    resource=Resource({"service.name": "rooms"}, "http://schema"), shutdown_on_exit=False
).get_tracer("t")


def converted(span: ReadableSpan) -> Span:
    return from_opentelemetry(span, rollout_id="ro-1", attempt_id="at-1", sequence_id=5)


def a_span(**options) -> Span:
    span = TRACER.start_span("work", **options)
    span.end()
    return converted(span)


def test_ids_are_hex() -> None:
    parent = TRACER.start_span("parent")
    span = a_span(context=set_span_in_context(parent))
    assert span.parent_id == f"{parent.get_span_context().span_id:016x}"
    assert span.trace_id == f"{parent.get_span_context().trace_id:032x}"
    assert len(span.span_id) == 16
    assert (span.rollout_id, span.attempt_id, span.sequence_id) == ("ro-1", "at-1", 5)


def test_times_are_in_seconds() -> None:
    span = TRACER.start_span("work", start_time=1_500_000_000)
    span.add_event("event", {"a": 1}, timestamp=2_000_000_000)
    span.end(2_500_000_000)
    assert (converted(span).start_time, converted(span).end_time) == (1.5, 2.5)
    assert (converted(span).events[0].timestamp, converted(span).events[0].attributes) == (2.0, {"a": 1})


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
        (b"\xff", b"\xff"),
        ("half \ud83d", "half ?"),
    ],
)
def test_a_value_that_the_store_would_refuse_becomes_text(value, expected) -> None:
    assert a_span(attributes={"key": value}).attributes == {"key": expected}
