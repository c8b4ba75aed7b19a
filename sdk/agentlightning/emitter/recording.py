"""How a span is recorded from anywhere inside a rollout. Knows OpenTelemetry's API, and no SDK of it.

Whoever runs the rollout puts the tracer to record with into the context.
"""

import logging
import time
from collections.abc import Mapping
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Status, StatusCode, Tracer

from agentlightning.emitter.attributes import AttributeValue
from agentlightning.types import SpanCoreFields, TraceStatus

_log = logging.getLogger(__name__)

_TRACER = otel_context.create_key("agentlightning-tracer")


def current_tracer() -> Tracer | None:
    """The tracer of the rollout in progress here, None outside of any."""
    tracer = otel_context.get_value(_TRACER)
    return tracer if isinstance(tracer, Tracer) else None


def with_tracer(tracer: Tracer, context: Context) -> Context:
    """A context in which what is emitted is recorded by this tracer."""
    return otel_context.set_value(_TRACER, tracer, context)


def record(name: str, attributes: Mapping[str, AttributeValue]) -> SpanCoreFields:
    """Record a span without a length; outside of a rollout nothing is recorded.

    Returns:
        What was, or would have been, recorded.
    """
    now = time.time_ns()
    if tracer := current_tracer():
        span = tracer.start_span(name, attributes=attributes, start_time=now)
        span.set_status(Status(StatusCode.OK))
        span.end(now)
    else:
        _log.debug("%s is not recorded: no rollout is in progress here", name)
    fields: dict[str, Any] = dict(attributes)
    return SpanCoreFields(
        name=name, status=TraceStatus(status_code="OK"), attributes=fields, start_time=now / 1e9, end_time=now / 1e9
    )
