"""OTLP's TraceService over the real socket: spans of any OpenTelemetry SDK find their attempt, or are told why not."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from agentlightning.semconv import ATTEMPT_ID, PRIMARY_REWARD_VALUE, ROLLOUT_ID, SPAN_SEQUENCE_ID
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.attempt_pb2 import AttemptStatus
from agentlightning.v1.rollout_pb2 import Assignment
from agentlightning.v1.span_pb2 import Span as OurSpan
from google.protobuf.duration_pb2 import Duration
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span


class Exporter:
    """What an OpenTelemetry SDK does, by hand."""

    def __init__(self, stub: Any, store: Any) -> None:
        self.stub = stub
        self.store = store

    async def export(
        self, *spans: Span, resource: dict[str, Any] | None = None, metadata: dict[str, str] | None = None, **call: Any
    ) -> ExportTraceServiceResponse:
        scope = ScopeSpans(
            scope=InstrumentationScope(name="tests", version="1"), spans=spans, schema_url="scope-schema"
        )
        message = ResourceSpans(
            resource=Resource(attributes=pairs(resource or {})), scope_spans=[scope], schema_url="resource-schema"
        )
        request = ExportTraceServiceRequest(resource_spans=[message])
        answer: ExportTraceServiceResponse = await self.stub.Export(
            request, metadata=tuple((metadata or {}).items()), **call
        )
        return answer

    async def stored(self, assignment: Assignment) -> list[OurSpan]:
        request = pb.ListSpansRequest(rollout_id=assignment.rollout.rollout_id)
        return list((await self.store.ListSpans(request)).spans)


def pairs(attributes: dict[str, Any]) -> list[KeyValue]:
    def value(of: Any) -> AnyValue:
        return AnyValue(**{{int: "int_value", float: "double_value", str: "string_value"}[type(of)]: of})

    return [KeyValue(key=key, value=value(of)) for key, of in attributes.items()]


def span(number: int, attributes: dict[str, Any] | None = None, **fields: Any) -> Span:
    return Span(
        trace_id=number.to_bytes(16, "big"),
        span_id=number.to_bytes(8, "big"),
        name=f"work {number}",
        start_time_unix_nano=1_800_000_000_123_456_789,
        attributes=pairs(attributes or {}),
        **fields,
    )


def identity(assignment: Assignment) -> dict[str, Any]:
    return {ROLLOUT_ID: assignment.attempt.rollout_id, ATTEMPT_ID: assignment.attempt.attempt_id}


@pytest.fixture
async def exporter(server: Any) -> AsyncIterator[Exporter]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield Exporter(TraceServiceStub(channel), server.stub)


@pytest.fixture
async def assignment(server: Any) -> Assignment:
    await server.enqueue()
    claimed: Assignment = await server.dequeue()
    return claimed


async def test_a_spans_attributes_say_where_it_belongs(exporter: Exporter, assignment: Assignment) -> None:
    assert await exporter.export(span(1, identity(assignment))) == ExportTraceServiceResponse()
    [stored] = await exporter.stored(assignment)
    assert (stored.attempt_id, stored.name) == (assignment.attempt.attempt_id, "work 1")


async def test_a_resources_attributes_say_where_its_spans_belong(exporter: Exporter, assignment: Assignment) -> None:
    await exporter.export(span(1), span(2), resource=identity(assignment))
    assert [stored.name for stored in await exporter.stored(assignment)] == ["work 1", "work 2"]


async def test_the_calls_metadata_say_where_its_spans_belong(exporter: Exporter, assignment: Assignment) -> None:
    metadata = {
        "x-agl-rollout-id": assignment.attempt.rollout_id,
        "x-agl-attempt-id": assignment.attempt.attempt_id,
    }
    assert await exporter.export(span(1), metadata=metadata) == ExportTraceServiceResponse()
    assert len(await exporter.stored(assignment)) == 1


async def test_a_spans_own_attributes_go_before_the_calls_metadata(exporter: Exporter, assignment: Assignment) -> None:
    metadata = {"x-agl-rollout-id": "ro-elsewhere", "x-agl-attempt-id": "at-elsewhere"}
    await exporter.export(span(1, identity(assignment)), metadata=metadata)
    assert len(await exporter.stored(assignment)) == 1


async def test_what_is_stored_is_what_was_sent(exporter: Exporter, assignment: Assignment) -> None:
    sent = span(1, {**identity(assignment), "n": 7}, trace_state="a=b", flags=257, kind=Span.SPAN_KIND_CLIENT)
    await exporter.export(sent, resource={"service.name": "agent"})
    [stored] = await exporter.stored(assignment)
    assert (stored.trace_id, stored.span_id) == ("0" * 31 + "1", "0" * 15 + "1")
    assert (stored.trace_state, stored.flags, stored.kind) == ("a=b", 257, Span.SPAN_KIND_CLIENT)
    assert stored.start_time.ToNanoseconds() == 1_800_000_000_123_456_789
    assert stored.attributes[-1].value.int_value == 7
    assert (stored.scope.name, stored.scope.schema_url) == ("tests", "scope-schema")
    assert (stored.resource.attributes[0].value.string_value, stored.resource.schema_url) == (
        "agent",
        "resource-schema",
    )


async def test_spans_without_a_number_are_numbered_as_they_come(exporter: Exporter, assignment: Assignment) -> None:
    await exporter.export(span(1), span(2, {SPAN_SEQUENCE_ID: 5}), span(3), resource=identity(assignment))
    assert [stored.sequence_id for stored in await exporter.stored(assignment)] == [1, 5, 6]


async def test_a_span_exported_twice_is_stored_once(exporter: Exporter, assignment: Assignment) -> None:
    for _ in range(2):
        assert await exporter.export(span(1, identity(assignment))) == ExportTraceServiceResponse()
    assert len(await exporter.stored(assignment)) == 1


async def test_a_compressed_export_is_taken(exporter: Exporter, assignment: Assignment) -> None:
    await exporter.export(span(1, identity(assignment)), compression=grpc.Compression.Gzip)
    assert len(await exporter.stored(assignment)) == 1


async def test_an_export_of_nothing_is_fine(exporter: Exporter) -> None:
    assert await exporter.stub.Export(ExportTraceServiceRequest()) == ExportTraceServiceResponse()


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (Span(span_id=b"\1" * 8, trace_id=b"\1" * 15), "trace_id"),
        (Span(span_id=b"", trace_id=b"\1" * 16), "span_id"),
        (span(9, {"x": float("nan")}), "finite"),
        (span(9, {ROLLOUT_ID: "ro-unknown"}), "ro-unknown"),
        (span(9, {ATTEMPT_ID: "at-unknown"}), "at-unknown"),
    ],
    ids=["trace id", "span id", "NaN", "unknown rollout", "unknown attempt"],
)
async def test_a_bad_span_is_rejected_alone_and_told_why(
    exporter: Exporter, assignment: Assignment, bad: Span, why: str
) -> None:
    answer = await exporter.export(span(1), bad, span(2), resource=identity(assignment))
    assert answer.partial_success.rejected_spans == 1
    assert why in answer.partial_success.error_message
    assert [stored.name for stored in await exporter.stored(assignment)] == ["work 1", "work 2"]


async def test_a_span_that_names_an_attempt_of_another_rollout_is_rejected(
    exporter: Exporter, assignment: Assignment, server: Any
) -> None:
    """Also beside good ones of that attempt."""
    [other] = await server.enqueue()
    bad = span(9, {ROLLOUT_ID: other.rollout_id})
    answer = await exporter.export(span(1), bad, resource=identity(assignment))
    assert answer.partial_success.rejected_spans == 1
    assert len((await server.stub.ListSpans(pb.ListSpansRequest(rollout_id=other.rollout_id))).spans) == 0


@pytest.mark.parametrize("number", [-1, 0, "", "seven", "-1", "9" * 30])
async def test_a_span_whose_number_is_none_is_numbered_by_the_store(
    exporter: Exporter, assignment: Assignment, number: object
) -> None:
    await exporter.export(span(1), span(2, {SPAN_SEQUENCE_ID: number}), span(3), resource=identity(assignment))
    assert [stored.sequence_id for stored in await exporter.stored(assignment)] == [1, 2, 3]


async def test_a_span_without_identity_is_rejected_saying_how_to_give_it_one(exporter: Exporter) -> None:
    answer = await exporter.export(span(1))
    assert answer.partial_success.rejected_spans == 1
    for what in (ROLLOUT_ID, ATTEMPT_ID, "x-agl-rollout-id", "x-agl-attempt-id", "work 1"):
        assert what in answer.partial_success.error_message


async def test_a_number_that_leaves_no_room_for_the_next_stops_no_queue(
    exporter: Exporter, assignment: Assignment, server: Any
) -> None:
    """Whatever becomes of the span itself: its rollout can be delivered again, and others' spans be stored."""
    await exporter.export(span(1, {SPAN_SEQUENCE_ID: 2**63 - 1}), resource=identity(assignment))
    await exporter.export(span(2), resource=identity(assignment))
    ref = pb.AttemptRef(rollout_id=assignment.attempt.rollout_id, attempt_id=assignment.attempt.attempt_id)
    await server.stub.ReleaseAttempts(pb.ReleaseAttemptsRequest(attempts=[ref]))
    assert (await server.dequeue()).rollout.rollout_id == assignment.rollout.rollout_id


async def test_a_span_is_a_sign_of_life(exporter: Exporter, assignment: Assignment, server: Any) -> None:
    await exporter.export(span(1, identity(assignment)))
    attempt = (await server.get(assignment.rollout.rollout_id)).latest_attempt
    assert attempt.status == AttemptStatus.ATTEMPT_STATUS_RUNNING


async def test_spans_keep_a_lease(exporter: Exporter, server: Any) -> None:
    await server.enqueue()
    assignment = await server.dequeue(lease_duration=Duration(seconds=10))
    for number in range(1, 5):
        server.clock.advance(8)
        await exporter.export(span(number, identity(assignment)))
    assert await server.dequeue() is None


async def test_a_reward_in_a_span_becomes_its_attempts(exporter: Exporter, assignment: Assignment, server: Any) -> None:
    await exporter.export(span(1, {**identity(assignment), PRIMARY_REWARD_VALUE: 0.5}))
    assert (await server.get(assignment.rollout.rollout_id)).latest_attempt.final_reward == 0.5
