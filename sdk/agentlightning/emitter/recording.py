"""How a span is recorded from anywhere inside a rollout, and what readers ask of one.

Knows OpenTelemetry's API, and no SDK of it. Whoever runs the rollout puts the tracer to record with into the context.
"""

import logging
import time
from collections.abc import Mapping
from typing import Any, Protocol

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, Status, StatusCode, Tracer

from agentlightning.emitter.attributes import AttributeValue
from agentlightning.types import SpanCoreFields, TraceStatus

_log = logging.getLogger(__name__)

_TRACER = otel_context.create_key("agentlightning-tracer")


class HasAttributes(Protocol):
    """A span, ours or OpenTelemetry's."""

    @property
    def name(self) -> str:
        """What kind of work it is."""

    @property
    def attributes(self) -> Mapping[str, Any] | None:
        """What it carries, by name."""


def current_tracer() -> Tracer | None:
    """The tracer of the rollout in progress here, None outside of any."""
    tracer = otel_context.get_value(_TRACER)
    return tracer if isinstance(tracer, Tracer) else None


def with_tracer(tracer: Tracer, context: Context) -> Context:
    """A context in which what is emitted is recorded by this tracer."""
    return otel_context.set_value(_TRACER, tracer, context)


def record(name: str, attributes: Mapping[str, AttributeValue], *, propagate: bool = True) -> SpanCoreFields:
    """Record a span without a length; outside of a rollout nothing is recorded.

    Args:
        name: The span's name.
        attributes: What it carries.
        propagate: Whether to record it at all, or only to build it.

    Returns:
        What was, or would have been, recorded.
    """
    now = time.time_ns()
    span = start(name, attributes, now, propagate=propagate)
    span.set_status(Status(StatusCode.OK))
    span.end(now)
    return core_fields(name, attributes, now, now, TraceStatus(status_code="OK"))


def start(name: str, attributes: Mapping[str, AttributeValue], now: int, *, propagate: bool) -> Span:
    """Start a span of the rollout in progress; one that records nothing where there is none, or unless `propagate`."""
    if not propagate:
        return INVALID_SPAN
    if tracer := current_tracer():
        return tracer.start_span(name, attributes=attributes, start_time=now)
    _log.debug("%s is not recorded: no rollout is in progress here", name)
    return INVALID_SPAN


def core_fields(
    name: str, attributes: Mapping[str, AttributeValue], start_time: int, end_time: int, status: TraceStatus
) -> SpanCoreFields:
    """What was recorded, as emitters return it; the times are nanoseconds."""
    fields: dict[str, Any] = dict(attributes)
    return SpanCoreFields(
        name=name, status=status, attributes=fields, start_time=start_time / 1e9, end_time=end_time / 1e9
    )
