"""Values that a wire message can hold and a store cannot: the caller's fault, never called a bug of the server."""

import math
import re
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.attempt_pb2 import Attempt, Failure
from agentlightning.v1.rollout_pb2 import Rollout, RolloutConfig
from agentlightning.v1.span_pb2 import (
    Attribute,
    AttributeValue,
    Span,
    SpanEvent,
    SpanLink,
    SpanResource,
    SpanScope,
)
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

FOR_EVER = Duration(seconds=2**62)
UNKNOWN: Any = 99


def enqueue(**fields: Any) -> pb.EnqueueRolloutsRequest:
    return pb.EnqueueRolloutsRequest(rollouts=[Rollout(input_json="1", **fields)])


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("EnqueueRollouts", enqueue(config=RolloutConfig(timeout=FOR_EVER))),
        ("EnqueueRollouts", enqueue(config=RolloutConfig(unresponsive_timeout=FOR_EVER))),
        ("EnqueueRollouts", enqueue(config=RolloutConfig(retry_condition=[UNKNOWN]))),
        ("EnqueueRollouts", enqueue(mode=UNKNOWN)),
        ("DequeueRollouts", pb.DequeueRolloutsRequest(lease_duration=FOR_EVER)),
        ("ListRollouts", pb.ListRolloutsRequest(statuses=[UNKNOWN])),
        ("ListRollouts", pb.ListRolloutsRequest(statuses=["ROLLOUT_STATUS_UNSPECIFIED"])),
        ("ListRollouts", pb.ListRolloutsRequest(page_token="W1tdLFtdXQ==")),  # [[], []]
        ("ListRollouts", pb.ListRolloutsRequest(page_token="é")),
        ("ListRollouts", pb.ListRolloutsRequest(mode=UNKNOWN)),
        ("ListRollouts", pb.ListRolloutsRequest(filter_logic=UNKNOWN)),
        ("ListRollouts", pb.ListRolloutsRequest(min_final_reward=math.nan)),
        ("ListRollouts", pb.ListRolloutsRequest(max_final_reward=math.nan)),
        ("ListSpans", pb.ListSpansRequest(skip=-1)),
        ("ListSpans", pb.ListSpansRequest(skip=2**63 - 1)),
        ("ListRuns", pb.ListRunsRequest(statuses=[UNKNOWN])),
        ("ListWorkers", pb.ListWorkersRequest(statuses=[UNKNOWN])),
    ],
    ids=[
        *("timeout", "unresponsive timeout", "retry condition", "mode", "lease", "listed status", "no listed status"),
        *("page token", "page token in another alphabet", "listed mode", "filter logic", "least reward", "most reward"),
        *("negative skip", "endless skip", "status of runs", "status of workers"),
    ],
)
async def test_it_is_refused_as_invalid(server: Any, method: str, message: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await getattr(server.stub, method)(message)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (
            "UpdateRollout",
            lambda ids: pb.UpdateRolloutRequest(
                rollout=Rollout(rollout_id=ids["rollout_id"], status=UNKNOWN), update_mask={"paths": ["status"]}
            ),
        ),
        (
            "UpdateAttempt",
            lambda ids: pb.UpdateAttemptRequest(
                attempt=Attempt(**ids, status=UNKNOWN), update_mask={"paths": ["status"]}
            ),
        ),
        (
            "UpdateAttempt",
            lambda ids: pb.UpdateAttemptRequest(
                attempt=Attempt(**ids, last_heartbeat_time=Timestamp(seconds=2**62)),
                update_mask={"paths": ["last_heartbeat_time"]},
            ),
        ),
        ("CompleteAttempt", lambda ids: pb.CompleteAttemptRequest(**ids, failure=Failure(kind=UNKNOWN))),
        (
            "CompleteAttempt",
            lambda ids: pb.CompleteAttemptRequest(
                **ids,
                succeeded=pb.CompleteAttemptRequest.Succeeded(),
                spans=[Span(trace_id="0" * 32, span_id="0" * 16, sequence_id=2**63 - 1)],
            ),
        ),
    ],
    ids=["rollout status", "attempt status", "heartbeat time", "failure kind", "sequence id without a next"],
)
async def test_about_an_attempt_it_is_refused_as_invalid_and_changes_nothing(
    server: Any, method: str, message: Callable[[dict[str, str]], Any]
) -> None:
    await server.enqueue()
    attempt = (await server.dequeue()).attempt
    before = await server.get(attempt.rollout_id)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await getattr(server.stub, method)(
            message({"rollout_id": attempt.rollout_id, "attempt_id": attempt.attempt_id})
        )
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert await server.get(attempt.rollout_id) == before


@pytest.mark.parametrize("moment", [Timestamp(seconds=2**62), Timestamp(seconds=-1), Timestamp(nanos=-1)], ids=str)
async def test_a_span_of_a_time_that_cannot_be_kept_is_rejected_alone(server: Any, moment: Timestamp) -> None:
    await server.enqueue()
    attempt = (await server.dequeue()).attempt
    ids = {"rollout_id": attempt.rollout_id, "attempt_id": attempt.attempt_id, "trace_id": "0" * 32}
    spans = [Span(**ids, span_id="0" * 16), Span(**ids, span_id="1" * 16, start_time=moment)]
    good, bad = (await server.stub.AddSpans(pb.AddSpansRequest(spans=spans))).results
    assert (good.error_reason, bad.error_reason) == ("", "FIELD_INVALID")


async def test_waiting_for_work_longer_than_any_clock_tells_is_waiting_as_long_as_allowed(server: Any) -> None:
    await server.enqueue()
    assert await server.dequeue(wait_timeout=FOR_EVER) is not None


async def test_waiting_for_rollouts_longer_than_any_clock_tells_is_waiting(server: Any) -> None:
    [rollout] = await server.enqueue()
    waiting = server.stub.WaitRollouts(pb.WaitRolloutsRequest(rollout_ids=[rollout.rollout_id], wait_timeout=FOR_EVER))
    assert (await waiting.read()).pending_count == 1
    await server.stub.CancelRollouts(pb.CancelRolloutsRequest(rollout_ids=[rollout.rollout_id]))
    assert [ended.rollout_id for ended in (await waiting.read()).rollouts] == [rollout.rollout_id]


def number(value: float) -> Attribute:
    return Attribute(key="k", value=AttributeValue(double_value=value))


NAN = number(float("nan"))
IDS = {"trace_id": "0" * 32, "span_id": "0" * 16}


@pytest.mark.parametrize(
    ("span", "field"),
    [
        (Span(**IDS, attributes=[NAN]), "attributes['k']"),
        (Span(**IDS, events=[SpanEvent(), SpanEvent(attributes=[number(float("inf"))])]), "events[1].attributes['k']"),
        (Span(**IDS, links=[SpanLink(attributes=[NAN])]), "links[0].attributes['k']"),
        (Span(**IDS, scope=SpanScope(attributes=[NAN])), "scope.attributes['k']"),
        (Span(**IDS, resource=SpanResource(attributes=[NAN])), "resource.attributes['k']"),
        (Span(**IDS, start_time=Timestamp(seconds=2**62)), "start_time"),
        (Span(**IDS, end_time=Timestamp(seconds=-1)), "end_time"),
        (Span(trace_id="0" * 32, span_id="0" * 16, sequence_id=-1), "sequence_id"),
        (Span(trace_id="x" * 32, span_id="0" * 16), "trace_id"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_in_a_span_it_is_refused_by_field_and_takes_no_other_span_with_it(
    server: Any, span: Span, field: str
) -> None:
    await server.enqueue()
    attempt = (await server.dequeue()).attempt
    ids = {"rollout_id": attempt.rollout_id, "attempt_id": attempt.attempt_id}
    good = Span(trace_id="1" * 32, span_id="1" * 16)
    for each in (span, good):
        each.rollout_id, each.attempt_id = ids.values()
    refused, stored = (await server.stub.AddSpans(pb.AddSpansRequest(spans=[span, good]))).results
    assert refused.error_message.startswith(f"{field} is ")
    assert stored.error_reason == ""
    with pytest.raises(grpc.aio.AioRpcError, match=re.escape(f"spans[0].{field} is ")):
        await server.stub.CompleteAttempt(
            pb.CompleteAttemptRequest(**ids, succeeded=pb.CompleteAttemptRequest.Succeeded(), spans=[span])
        )


async def test_a_heartbeat_time_that_is_named_and_not_given_is_cleared(server: Any) -> None:
    await server.enqueue()
    attempt = (await server.dequeue()).attempt
    ids = {"rollout_id": attempt.rollout_id, "attempt_id": attempt.attempt_id}
    request = pb.UpdateAttemptRequest(attempt=Attempt(**ids), update_mask={"paths": ["last_heartbeat_time"]})
    assert not (await server.stub.UpdateAttempt(request)).attempt.HasField("last_heartbeat_time")
