"""Several attempts completed in one call: each has its own answer, and none suffers for another."""

from typing import Any

import grpc
import pytest
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.attempt_pb2 import Failure, FailureKind
from agentlightning.v1.rollout_pb2 import Assignment, RolloutStatus
from agentlightning.v1.span_pb2 import Span

Completion = pb.CompleteAttemptRequest


def ended(assignment: Assignment, failure: Failure | None = None, **fields: Any) -> Completion:
    outcome = {"succeeded": Completion.Succeeded()} if failure is None else {"failure": failure}
    attempt = assignment.attempt
    return Completion(rollout_id=attempt.rollout_id, attempt_id=attempt.attempt_id, **outcome, **fields)


async def claimed(server: Any, count: int) -> list[Assignment]:
    await server.enqueue(*["1"] * count)
    return list((await server.stub.DequeueRollouts(pb.DequeueRolloutsRequest(max_rollouts=count))).assignments)


async def complete(server: Any, *completions: Completion) -> list[pb.CompleteAttemptsResponse.Result]:
    return list((await server.stub.CompleteAttempts(pb.CompleteAttemptsRequest(attempts=completions))).results)


async def test_each_attempt_ends_as_it_is_told(server: Any) -> None:
    good, bad = await claimed(server, 2)
    failure = Failure(kind=FailureKind.FAILURE_KIND_AGENT, message="no")
    results = await complete(server, ended(good), ended(bad, failure))
    told = [result.rollout.status for result in results]
    assert told == [RolloutStatus.ROLLOUT_STATUS_SUCCEEDED, RolloutStatus.ROLLOUT_STATUS_FAILED]
    assert [(await server.get(result.rollout.rollout_id)) for result in results] == [
        result.rollout for result in results
    ]


async def test_the_last_spans_come_with_it(server: Any) -> None:
    [assignment] = await claimed(server, 1)
    span = Span(span_id="0123456789abcdef", trace_id="0" * 32, name="last")
    await complete(server, ended(assignment, spans=[span]))
    stored = await server.stub.ListSpans(pb.ListSpansRequest(rollout_id=assignment.attempt.rollout_id))
    assert [span.name for span in stored.spans] == ["last"]


async def test_one_that_is_refused_says_why_and_stops_no_other(server: Any) -> None:
    lost, good = await claimed(server, 2)
    await server.stub.StartAttempt(pb.StartAttemptRequest(rollout_id=lost.attempt.rollout_id))
    nobody = Completion(rollout_id="ro-0", attempt_id="at-0", succeeded=Completion.Succeeded())
    endless = Completion(rollout_id=good.attempt.rollout_id, attempt_id=good.attempt.attempt_id)
    results = await complete(server, ended(lost), nobody, endless, ended(good))
    reasons = [result.error_reason for result in results]
    assert reasons == ["ATTEMPT_SUPERSEDED", "ROLLOUT_NOT_FOUND", "FIELD_INVALID", ""]
    assert results[0].error_metadata["attempt_id"] == lost.attempt.attempt_id
    assert results[3].rollout.status == RolloutStatus.ROLLOUT_STATUS_SUCCEEDED


async def test_a_repeat_is_answered_as_the_first_was(server: Any) -> None:
    completions = [ended(assignment) for assignment in await claimed(server, 2)]
    assert await complete(server, *completions) == await complete(server, *completions)


@pytest.mark.parametrize("spans", [0, 501])
async def test_more_than_a_call_takes_is_refused_whole(server: Any, spans: int) -> None:
    one = Completion(spans=[Span()] * spans)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await complete(server, *[one] * (2 if spans else 1001))
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
