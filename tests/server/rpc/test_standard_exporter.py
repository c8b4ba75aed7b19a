"""OpenTelemetry's own exporter, told of the store by nothing but the standard environment variables."""

import asyncio
import os
import sys
from typing import Any

import pytest
from agentlightning.v1 import store_service_pb2 as pb

PROGRAM = """
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
with provider.get_tracer("somebody's agent").start_as_current_span("think") as span:
    span.set_attribute("agentlightning.reward.0.value", 0.5)
provider.shutdown()
"""


async def run_with(**environment: str) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    program = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, env=inherited | environment)
    assert await program.wait() == 0


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_RESOURCE_ATTRIBUTES", "agentlightning.rollout_id={0},agentlightning.attempt_id={1}"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-agl-rollout-id={0},x-agl-attempt-id={1}"),
    ],
)
async def test_a_program_told_its_identity_by_a_variable_has_its_spans_stored(
    server: Any, variable: str, value: str
) -> None:
    [rollout] = await server.enqueue()
    attempt_id = (await server.dequeue()).attempt.attempt_id
    identity = {variable: value.format(rollout.rollout_id, attempt_id)}
    endpoint = f"http://{server.address}"
    await run_with(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_EXPORTER_OTLP_PROTOCOL="grpc", **identity)
    [span] = (await server.stub.ListSpans(pb.ListSpansRequest(rollout_id=rollout.rollout_id))).spans
    assert (span.name, span.attempt_id, span.scope.name) == ("think", attempt_id, "somebody's agent")
    assert (await server.get(rollout.rollout_id)).latest_attempt.final_reward == 0.5
