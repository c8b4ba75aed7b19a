"""More than the server takes or a client can be told at once: refused in words or cut in pieces, and then forgotten."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.resources_pb2 import Resource, Resources
from agentlightning.v1.rollout_pb2 import Rollout
from agentlightning.v1.span_pb2 import Attribute, AttributeValue, Span
from agentlightning.v1.store_service_pb2_grpc import StoreServiceStub
from agentlightning_server.app import running
from agentlightning_server.config import Config
from google.rpc import error_details_pb2, status_pb2

MIB = 1 << 20
LIMIT = 16 * MIB
BEARABLE = 2 * MIB + 4096
"""What a page or a message of a stream may have, and what surrounds it."""
ALLOWANCE = 128
"""MiB that a server may keep of what it has seen: what the allocator and SQLite hold for the next of its kind."""
ANY_SIZE = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
LARGE = '"' + "x" * MIB + '"'
LARGES = 6
REF = pb.AttemptRef(rollout_id="ro-1", attempt_id="at-1")
SPAN = Span(rollout_id="ro-1", attempt_id="at-1", trace_id="1" * 32, span_id="1" * 16)


@asynccontextmanager
async def stub_at(address: str, options: tuple[tuple[str, int], ...] = ANY_SIZE) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield StoreServiceStub(channel)


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator[Any]:
    config = Config(database=tmp_path / "store.db", port=0, grace=0.5)
    async with running(config) as address, stub_at(address) as stub:
        yield stub


def reason_of(error: grpc.aio.AioRpcError) -> str:
    info = error_details_pb2.ErrorInfo()
    details = dict([*(error.trailing_metadata() or ())]).get("grpc-status-details-bin", b"")
    for detail in status_pb2.Status.FromString(details).details:
        if detail.Unpack(info):
            return str(info.reason)
    return ""


async def is_usable(stub: Any) -> bool:
    return bool((await stub.GetServerInfo(pb.GetServerInfoRequest())).version)


async def test_a_message_over_the_limit_is_refused_and_the_connection_goes_on(
    serve: Callable[..., Any], times: Callable[[int, int], int], tell: Callable[[str], None]
) -> None:
    server, count = serve(), times(3, 40)
    async with stub_at(server.address) as stub:
        request = pb.EnqueueRolloutsRequest(rollouts=[Rollout(input_json=LARGE)] * 17)
        assert await is_usable(stub)
        before = server.memory
        for _ in range(count):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.EnqueueRollouts(request)
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert str(LIMIT) in (refused.value.details() or "")
            assert await is_usable(stub)
        after = server.memory
        assert not (await stub.GetStatistics(pb.GetStatisticsRequest())).rollouts
    tell(
        f"{count} requests over the limit refused, 0 of them stored: server's memory {before:.0f} MiB, then {after:.0f}"
    )
    assert after < before + ALLOWANCE


async def test_a_task_of_almost_the_limit_is_enqueued_delivered_and_read(
    serve: Callable[..., Any], times: Callable[[int, int], int], tell: Callable[[str], None]
) -> None:
    """What comes back is a little larger than what was sent; the memory for it is used again by the next."""
    server, count = serve(), times(1, 15)
    task = '"' + "x" * (LIMIT - 64) + '"'
    memory = [server.memory]
    async with stub_at(server.address) as stub:
        for _ in range(2):
            for _ in range(count):
                request = pb.EnqueueRolloutsRequest(rollouts=[Rollout(input_json=task)])
                [enqueued] = (await stub.EnqueueRollouts(request)).rollouts
                [assignment] = (await stub.DequeueRollouts(pb.DequeueRolloutsRequest(worker_id="w"))).assignments
                assert assignment.rollout.rollout_id == enqueued.rollout_id
                read = (await stub.GetRollout(pb.GetRolloutRequest(rollout_id=enqueued.rollout_id))).rollout
                assert read.input_json == task
            memory.append(server.memory)
    before, first, last = memory
    tell(
        f"tasks of 16 MiB delivered, {count} and {count} more: server's memory {before:.0f} MiB, {first:.0f}, "
        f"then {last:.0f}"
    )
    assert last < first + ALLOWANCE


async def test_an_answer_that_its_reader_does_not_take_leaves_the_connection_usable(serve: Callable[..., Any]) -> None:
    request = pb.EnqueueRolloutsRequest(rollouts=[Rollout(input_json=LARGE)] * 5)
    async with stub_at(serve().address, options=()) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.EnqueueRollouts(request)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await is_usable(stub)


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("EnqueueRollouts", pb.EnqueueRolloutsRequest(rollouts=[Rollout(input_json="1")] * 1001)),
        ("HeartbeatAttempts", pb.HeartbeatAttemptsRequest(attempts=[REF] * 1001)),
        ("ReleaseAttempts", pb.ReleaseAttemptsRequest(attempts=[REF] * 1001)),
        ("CompleteAttempt", pb.CompleteAttemptRequest(succeeded={}, spans=[SPAN] * 1001)),
        ("AddSpans", pb.AddSpansRequest(spans=[SPAN] * 1001)),
        ("ReserveSequenceIds", pb.ReserveSequenceIdsRequest(rollout_ids=["ro-1"] * 1001)),
        ("CancelRollouts", pb.CancelRolloutsRequest(rollout_ids=["ro-1"] * 10_001)),
        ("ListRollouts", pb.ListRolloutsRequest(rollout_ids=["ro-1"] * 10_001)),
        ("WaitRollouts", pb.WaitRolloutsRequest(rollout_ids=["ro-1"] * 10_001)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_more_than_a_call_takes_is_refused_in_words(stub: Any, method: str, request_: Any) -> None:
    call = getattr(stub, method)(request_)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await (call.read() if hasattr(call, "read") else call)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason_of(refused.value) == "REQUEST_TOO_LARGE"
    assert "at most" in (refused.value.details() or "")
    assert await is_usable(stub)


async def enqueue_large(stub: Any) -> list[str]:
    ids = []
    for _ in range(LARGES // 3):
        answer = await stub.EnqueueRollouts(pb.EnqueueRolloutsRequest(rollouts=[Rollout(input_json=LARGE)] * 3))
        ids += [rollout.rollout_id for rollout in answer.rollouts]
    return ids


async def cancel_large(stub: Any) -> list[str]:
    ids = await enqueue_large(stub)
    await stub.CancelRollouts(pb.CancelRolloutsRequest(rollout_ids=ids))
    return ids


async def pages(call: Any, request: Any) -> list[Any]:
    answers = [await call(request)]
    while answers[-1].next_page_token:
        request.page_token = answers[-1].next_page_token
        answers.append(await call(request))
    return answers


async def waits(stub: Any) -> list[Any]:
    request = pb.WaitRolloutsRequest(rollout_ids=await cancel_large(stub))
    return [message async for message in stub.WaitRollouts(request)]


async def claims(stub: Any) -> list[Any]:
    await enqueue_large(stub)
    request, answers = pb.DequeueRolloutsRequest(worker_id="w", max_rollouts=LARGES), []
    while (answer := await stub.DequeueRollouts(request)).assignments:
        answers.append(answer)
    return answers


async def lists_spans(stub: Any) -> list[Any]:
    attempt = (await stub.StartRollout(pb.StartRolloutRequest(rollout=Rollout(input_json="1")))).assignment.attempt
    for number in range(LARGES):
        attribute = Attribute(key="text", value=AttributeValue(string_value=LARGE))
        span = Span(rollout_id=attempt.rollout_id, attempt_id=attempt.attempt_id, attributes=[attribute])
        span.trace_id, span.span_id = "1" * 32, f"{number:016x}"
        await stub.AddSpans(pb.AddSpansRequest(spans=[span]))
    return await pages(stub.ListSpans, pb.ListSpansRequest(rollout_id=attempt.rollout_id))


async def lists_resources(stub: Any) -> list[Any]:
    resources = Resources(resources=[Resource(name="large", custom_json=LARGE)])
    for _ in range(LARGES):
        await stub.AddResources(pb.AddResourcesRequest(resources=resources))
    return await pages(stub.ListResources, pb.ListResourcesRequest())


@pytest.mark.parametrize(
    ("reads", "field"),
    [(waits, "rollouts"), (claims, "assignments"), (lists_spans, "spans"), (lists_resources, "resources")],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_what_is_large_is_told_in_messages_of_a_bearable_size(stub: Any, reads: Any, field: str) -> None:
    answers = await reads(stub)
    assert max(answer.ByteSize() for answer in answers) <= BEARABLE
    assert sum(len(getattr(answer, field)) for answer in answers) == LARGES


async def test_a_wait_that_breaks_between_two_messages_is_resumed_without_a_gap(stub: Any) -> None:
    ids = await cancel_large(stub)
    told: set[str] = set()
    revision = 0
    while len(told) < len(ids):
        waiting = stub.WaitRollouts(pb.WaitRolloutsRequest(rollout_ids=ids, after_revision=revision))
        message = await waiting.read()
        waiting.cancel()
        assert message.rollouts
        told |= {rollout.rollout_id for rollout in message.rollouts}
        revision = message.revision
    assert told == set(ids)
