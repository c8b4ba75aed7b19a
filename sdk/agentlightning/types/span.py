"""Spans as the SDK's users see them: pydantic models in OpenTelemetry's terms, with times in Unix seconds."""

import secrets
import time
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from agentlightning.semconv import VIRTUAL_SPAN
from agentlightning.types.otel import span_fields

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

Attributes = dict[str, Any]
SpanKind = Literal["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]


class TraceStatus(BaseModel):
    """How a span's work went.

    Example:
        >>> TraceStatus(status_code="ERROR", description="ValueError: no such room").status_code
        'ERROR'
    """

    model_config = ConfigDict(extra="allow")
    status_code: Literal["UNSET", "OK", "ERROR"] = "UNSET"
    description: str | None = None


class Event(BaseModel):
    """Something that happened at one moment of a span.

    Example:
        >>> span = Span.from_attributes(name="search", attributes={})
        >>> span.events.append(Event(name="cache miss", attributes={"key": "rooms"}, timestamp=span.start_time))
        >>> span.events[0].attributes["key"]
        'rooms'
    """

    model_config = ConfigDict(extra="allow")
    name: str
    attributes: Attributes = Field(default_factory=dict)
    timestamp: float | None = None
    dropped_attributes_count: int = 0


class SpanContext(BaseModel):
    """Which span of which trace.

    Example:
        >>> context = SpanContext(trace_id="0af7651916cd43dd8448eb211c80319c", span_id="b7ad6b7169203331")
        >>> context.is_remote
        False
    """

    model_config = ConfigDict(extra="allow")
    trace_id: str
    span_id: str
    is_remote: bool = False
    trace_state: dict[str, str] = Field(default_factory=dict)


class Link(BaseModel):
    """Another span that this one is about.

    Example:
        >>> asked = Span.from_attributes(name="question", attributes={})
        >>> link = Link(context=SpanContext(trace_id=asked.trace_id, span_id=asked.span_id), attributes={"turn": 1})
        >>> answered = Span.from_attributes(name="answer", attributes={}).model_copy(update={"links": [link]})
        >>> answered.links[0].context.span_id == asked.span_id
        True
    """

    model_config = ConfigDict(extra="allow")
    context: SpanContext
    attributes: Attributes | None = None
    flags: int = 0
    """W3C trace flags, as OTLP has them."""
    dropped_attributes_count: int = 0


class InstrumentationScope(BaseModel):
    """The instrumentation that made a span.

    Example:
        >>> span = Span.from_attributes(name="search", attributes={})
        >>> span.scope = InstrumentationScope(name="my.instrumentation", version="1.0")
        >>> span.scope.name
        'my.instrumentation'
    """

    name: str = ""
    version: str = ""
    attributes: Attributes = Field(default_factory=dict)
    dropped_attributes_count: int = 0
    schema_url: str = ""


class OtelResource(BaseModel):
    """The process that made a span.

    Example:
        >>> host = OtelResource(attributes={"service.name": "rooms", "host.name": "node-1"})
        >>> Span.from_attributes(name="search", attributes={}, resource=host).resource.attributes["service.name"]
        'rooms'
    """

    attributes: Attributes = Field(default_factory=dict)
    dropped_attributes_count: int = 0
    schema_url: str = ""


class Span(BaseModel):
    """One unit of work inside an attempt. Fields that this class does not know are kept with it.

    Example:
        >>> started = asyncio.run(store.start_rollout("Why?"))
        >>> ids = {"rollout_id": started.rollout_id, "attempt_id": started.attempt.attempt_id}
        >>> span = Span.from_attributes(name="search", attributes={"rooms": ["Lyra"]}, **ids)
        >>> asyncio.run(store.add_span(span)).sequence_id
        1
        >>> print(asyncio.run(store.query_spans(started.rollout_id))[0])
        Span(name='search', attributes={'rooms': ['Lyra']})
    """

    model_config = ConfigDict(extra="allow")
    rollout_id: str
    attempt_id: str
    sequence_id: int
    """Its place in the attempt: parents come before children."""
    trace_id: str
    span_id: str
    parent_id: str | None = None
    name: str
    kind: SpanKind = "INTERNAL"
    status: TraceStatus = Field(default_factory=TraceStatus)
    attributes: Attributes = Field(default_factory=dict)
    events: list[Event] = Field(default_factory=list)
    links: list[Link] = Field(default_factory=list)
    start_time: float | None = None
    end_time: float | None = None
    context: SpanContext | None = None
    parent: SpanContext | None = None
    flags: int = 0
    """W3C trace flags, as OTLP has them."""
    dropped_attributes_count: int = 0
    """How many attributes were dropped before the span was sent."""
    dropped_events_count: int = 0
    dropped_links_count: int = 0
    scope: InstrumentationScope | None = None
    resource: OtelResource = Field(default_factory=OtelResource)

    def __str__(self) -> str:
        return f"Span(name={self.name!r}, attributes={self.attributes!r})"

    @classmethod
    def from_attributes(
        cls,
        *,
        attributes: Attributes,
        rollout_id: str = "",
        attempt_id: str = "",
        sequence_id: int = 0,
        name: str = VIRTUAL_SPAN,
        trace_id: str | None = None,
        span_id: str | None = None,
        parent_id: str | None = None,
        start_time: float | None = None,
        end_time: float | None = None,
        resource: OtelResource | None = None,
        status: TraceStatus | None = None,
    ) -> "Span":
        """Make a span out of attributes alone; ids are random and times now unless given."""
        now = time.time()
        return cls(
            rollout_id=rollout_id,
            attempt_id=attempt_id,
            sequence_id=sequence_id,
            trace_id=trace_id or secrets.token_hex(16),
            span_id=span_id or secrets.token_hex(8),
            parent_id=parent_id,
            name=name,
            status=status or TraceStatus(status_code="OK"),
            attributes=attributes,
            start_time=now if start_time is None else start_time,
            end_time=now if end_time is None else end_time,
            resource=resource or OtelResource(),
        )

    @classmethod
    def from_core_fields(
        cls, core: "SpanCoreFields", *, rollout_id: str = "", attempt_id: str = "", sequence_id: int = 0
    ) -> "Span":
        """Give what an emitter recorded a place: new ids, no parent, and it began now unless it says when."""
        return cls.from_attributes(**dict(core), rollout_id=rollout_id, attempt_id=attempt_id, sequence_id=sequence_id)

    @classmethod
    def from_opentelemetry(cls, readable: "ReadableSpan", rollout_id: str, attempt_id: str, sequence_id: int) -> "Span":
        """Make a span out of one of OpenTelemetry that has ended.

        Times above 1e12 are nanoseconds, as OpenTelemetry has them; others are taken as seconds. A value that the store
        would refuse, such as NaN, becomes text.
        """
        return cls(rollout_id=rollout_id, attempt_id=attempt_id, sequence_id=sequence_id, **span_fields(readable))


class SpanCoreFields(BaseModel):
    """What an emitter recorded, before the span has a place in an attempt.

    Example:
        >>> fields = agl.emit_annotation({"difficulty": "hard"}, propagate=False)
        >>> fields.name, fields.attributes
        ('agentlightning.annotation', {'difficulty': 'hard'})
        >>> Span.from_core_fields(fields, sequence_id=1).attributes["difficulty"]
        'hard'
    """

    name: str
    status: TraceStatus = Field(default_factory=TraceStatus)
    attributes: Attributes = Field(default_factory=dict)
    start_time: float | None = None
    end_time: float | None = None
