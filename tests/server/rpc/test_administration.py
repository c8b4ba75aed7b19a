"""What an administrator says of rollouts and attempts, over a real socket: it holds at once, and breaks no promise."""

from typing import Any

import grpc
import pytest
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.attempt_pb2 import Attempt, AttemptStatus
from agentlightning.v1.rollout_pb2 import Assignment, Rollout, RolloutConfig, RolloutStatus
from agentlightning.v1.span_pb2 import Span
from agentlightning_server.clock import SECOND
from agentlightning_server.storage.rows import timestamp
from google.protobuf.duration_pb2 import Duration


def ref(assignment: Assignment) -> dict[str, str]:
    return {"rollout_id": assignment.rollout.rollout_id, "attempt_id": assignment.attempt.attempt_id}


async def set_rollout(server: Any, rollout_id: str, **fields: Any) -> Rollout:
    request = pb.UpdateRolloutRequest(
        rollout=Rollout(rollout_id=rollout_id, **fields), update_mask={"paths": [*fields]}
    )
    return (await server.stub.UpdateRollout(request)).rollout


async def set_attempt(server: Any, assignment: Assignment, **fields: Any) -> Attempt:
    request = pb.UpdateAttemptRequest(attempt=Attempt(**ref(assignment), **fields), update_mask={"paths": [*fields]})
    return (await server.stub.UpdateAttempt(request)).attempt


async def test_an_attempt_is_not_told_to_live_beside_a_later_one(server: Any) -> None:
    await server.enqueue()
    first = await server.dequeue()
    await server.stub.StartAttempt(pb.StartAttemptRequest(rollout_id=first.rollout.rollout_id))
    before = await server.get(first.rollout.rollout_id)
    with pytest.raises(grpc.aio.AioRpcError, match="StartAttempt") as refusal:
        await set_attempt(server, first, status=AttemptStatus.ATTEMPT_STATUS_RUNNING)
    assert refusal.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert await server.get(first.rollout.rollout_id) == before


async def test_a_rollout_that_has_ended_may_still_be_set_to_cancelled(server: Any) -> None:
    [rollout] = await server.enqueue()
    await set_rollout(server, rollout.rollout_id, status=RolloutStatus.ROLLOUT_STATUS_FAILED)
    cancelled = await set_rollout(server, rollout.rollout_id, status=RolloutStatus.ROLLOUT_STATUS_CANCELLED)
    assert cancelled.status == RolloutStatus.ROLLOUT_STATUS_CANCELLED


async def test_a_limit_set_while_an_attempt_is_at_work_is_in_force_at_once(server: Any) -> None:
    [rollout] = await server.enqueue()
    await server.dequeue()
    await set_rollout(server, rollout.rollout_id, config=RolloutConfig(timeout=Duration(seconds=5)))
    server.clock.advance(5)
    attempt = (await server.get(rollout.rollout_id)).latest_attempt
    assert attempt.status == AttemptStatus.ATTEMPT_STATUS_TIMEOUT


async def test_an_attempt_said_to_be_last_heard_of_long_ago_is_silent_at_once(server: Any) -> None:
    [rollout] = await server.enqueue(config=RolloutConfig(unresponsive_timeout=Duration(seconds=30)))
    claimed = await server.dequeue()
    await set_attempt(server, claimed, last_heartbeat_time=timestamp(server.clock() - 30 * SECOND))
    attempt = (await server.get(rollout.rollout_id)).latest_attempt
    assert attempt.status == AttemptStatus.ATTEMPT_STATUS_UNRESPONSIVE


async def test_a_completion_that_says_what_an_administrator_said_before_keeps_its_spans(server: Any) -> None:
    await server.enqueue()
    claimed = await server.dequeue()
    await set_attempt(server, claimed, status=AttemptStatus.ATTEMPT_STATUS_SUCCEEDED)
    span = Span(**ref(claimed), trace_id="0" * 32, span_id="0" * 16)
    await server.stub.CompleteAttempt(pb.CompleteAttemptRequest(**ref(claimed), succeeded={}, spans=[span]))
    spans = (await server.stub.ListSpans(pb.ListSpansRequest(rollout_id=claimed.rollout.rollout_id))).spans
    assert [stored.span_id for stored in spans] == [span.span_id]
