"""Spans as the SDK's users see them: pydantic models in OpenTelemetry's terms, with times in Unix seconds."""

import secrets
import time
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from agentlightning.semconv import VIRTUAL_SPAN

Attributes = dict[str, Any]
SpanKind = Literal["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]


class TraceStatus(BaseModel):
    """How a span's work went."""

    model_config = ConfigDict(extra="allow")
    status_code: Literal["UNSET", "OK", "ERROR"] = "UNSET"
    description: str | None = None


class Event(BaseModel):
    """Something that happened at one moment of a span."""

    model_config = ConfigDict(extra="allow")
    name: str
    attributes: Attributes = Field(default_factory=dict)
    timestamp: float | None = None


class SpanContext(BaseModel):
    """Which span of which trace."""

    model_config = ConfigDict(extra="allow")
    trace_id: str
    span_id: str
    is_remote: bool = False
    trace_state: dict[str, str] = Field(default_factory=dict)


class Link(BaseModel):
    """Another span that this one is about."""

    model_config = ConfigDict(extra="allow")
    context: SpanContext
    attributes: Attributes | None = None


class OtelResource(BaseModel):
    """The process that made a span."""

    attributes: Attributes = Field(default_factory=dict)
    schema_url: str = ""


class Span(BaseModel):
    """One unit of work inside an attempt."""

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


class SpanCoreFields(BaseModel):
    """What an emitter recorded, before the span has a place in an attempt."""

    name: str
    status: TraceStatus = Field(default_factory=TraceStatus)
    attributes: Attributes = Field(default_factory=dict)
    start_time: float | None = None
    end_time: float | None = None
