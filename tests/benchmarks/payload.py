"""The same work for every system: a span of a kilobyte, plain and in OTLP. Knows none of their clients."""

import secrets
import time
from typing import Any

ATTRIBUTES: dict[str, Any] = {
    "gen_ai.request.model": "gpt-4.1-nano",
    "gen_ai.prompt.0.role": "user",
    "gen_ai.prompt.0.content": "Which room seats nine people at half past ten? " * 12,
    "gen_ai.completion.0.content": "The one on the second floor is free. " * 8,
    "gen_ai.usage.input_tokens": 412,
    "gen_ai.usage.output_tokens": 96,
}
SPAN_NAME = "openai.chat.completion"
SPANS = 8
"""How many an attempt leaves."""


def otlp_request(rollout_id: str, attempt_id: str, count: int) -> Any:
    """An export of spans that carry their attempt's identity as an OpenTelemetry SDK would: on the resource."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    def pair(key: str, value: Any) -> KeyValue:
        return KeyValue(key=key, value=AnyValue(**{"int_value" if isinstance(value, int) else "string_value": value}))

    now = time.time_ns()
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    of_resource.resource.attributes.extend(
        [pair("agentlightning.rollout_id", rollout_id), pair("agentlightning.attempt_id", attempt_id)]
    )
    of_resource.scope_spans.add().spans.extend(
        Span(
            trace_id=secrets.token_bytes(16),
            span_id=secrets.token_bytes(8),
            name=SPAN_NAME,
            kind=Span.SPAN_KIND_INTERNAL,
            start_time_unix_nano=now,
            end_time_unix_nano=now,
            attributes=[pair(key, value) for key, value in ATTRIBUTES.items()],
        )
        for _ in range(count)
    )
    return request
