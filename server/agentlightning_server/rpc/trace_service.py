"""OpenTelemetry's TraceService: spans of any OpenTelemetry SDK, in any language, on the store's own port."""

import logging
from typing import Any

from agentlightning.v1.span_pb2 import Span
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceServicer

from agentlightning_server.dispatch.dispatcher import Dispatcher
from agentlightning_server.errors import StoreError
from agentlightning_server.rpc.otlp import spans_of
from agentlightning_server.rpc.validation import check_span
from agentlightning_server.storage import attempts

_log = logging.getLogger(__name__)
ROLLOUT_HEADER = "x-agl-rollout-id"
ATTEMPT_HEADER = "x-agl-attempt-id"


class TraceService(TraceServiceServicer):
    """Stores what it can place: a span's identity is in its attributes, its resource's, or the call's metadata."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:
        """Store spans; those that cannot be placed are rejected alone, and the answer says how many and why."""
        metadata = dict(context.invocation_metadata() or ())
        refusals: list[str] = []
        good = []
        number = sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)
        for resource_spans in request.resource_spans:
            for span in spans_of(resource_spans):
                span.rollout_id = span.rollout_id or metadata.get(ROLLOUT_HEADER, "")
                span.attempt_id = span.attempt_id or metadata.get(ATTEMPT_HEADER, "")
                try:
                    check_span(span)
                except StoreError as error:
                    refusals.append(_refusal(span, str(error)))
                else:
                    good.append(span)
        results = await self._dispatcher.write(lambda tx: attempts.add_spans(tx, good))
        for span, result in zip(good, results, strict=True):
            if result.error_reason:
                refusals.append(_refusal(span, result.error_message))
        if not refusals:
            return ExportTraceServiceResponse()
        # Most exporters keep the answer to themselves.
        _log.warning("%d of %d spans of an export are not stored: %s", len(refusals), number, refusals[0])
        return ExportTraceServiceResponse(
            partial_success=ExportTracePartialSuccess(
                rejected_spans=len(refusals), error_message="; ".join(refusals[:5])
            )
        )


def _refusal(span: Span, why: str) -> str:
    if not span.rollout_id:
        why = (
            "no identity: give the attributes agentlightning.rollout_id and agentlightning.attempt_id on the span or "
            f"its resource, or the metadata {ROLLOUT_HEADER} and {ATTEMPT_HEADER}"
        )
    return f"span {span.name!r}: {why}"
