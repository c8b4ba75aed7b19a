"""WaitRollouts over a real socket: each ended rollout once, in messages that any client takes, across every break."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from agentlightning.semconv import PRIMARY_REWARD_VALUE
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.rollout_pb2 import Rollout, RolloutStatus
from agentlightning.v1.span_pb2 import Attribute, AttributeValue, Span
from agentlightning_server.dispatch import dispatcher
from agentlightning_server.dispatch.waits import Wait, Waits
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2, status_pb2

SUCCEEDED = pb.CompleteAttemptRequest.Succeeded()
LARGE = '"' + "x" * (900 << 10) + '"'
MESSAGE_BYTES = 2 << 20
WAITERS, ENDERS, BREAKS = 8, 8, 100
BOUND = 20


async def ids_of(server: Any, count: int, task: str = "1") -> list[str]:
    return [rollout.rollout_id for rollout in await server.enqueue(*[task] * count)]


async def cancel(server: Any, *rollout_ids: str) -> None:
    await server.stub.CancelRollouts(pb.CancelRolloutsRequest(rollout_ids=rollout_ids))


async def cancel_in_order(server: Any, *rollout_ids: str) -> None:
    for rollout_id in rollout_ids:
        await cancel(server, rollout_id)


async def set_status(server: Any, rollout_id: str, status: RolloutStatus.ValueType) -> None:
    rollout = Rollout(rollout_id=rollout_id, status=status)
    await server.stub.UpdateRollout(pb.UpdateRolloutRequest(rollout=rollout, update_mask=FieldMask(paths=["status"])))


def wait(server: Any, *rollout_ids: str, seconds: float | None = None, **fields: Any) -> Any:
    timeout = None if seconds is None else Duration(nanos=int(seconds * 1e9))
    return server.stub.WaitRollouts(
        pb.WaitRolloutsRequest(rollout_ids=rollout_ids, wait_timeout=timeout, **fields), timeout=BOUND
    )


async def rest(call: Any) -> list[pb.WaitRolloutsResponse]:
    """The messages up to the end of the stream."""
    messages = []
    while (message := await call.read()) is not grpc.aio.EOF:
        messages.append(message)
    return messages


async def ended(server: Any, *rollout_ids: str, **fields: Any) -> list[str]:
    """What is sent of rollouts of which none is still to come, or before the time is up."""
    return [name for message in await rest(wait(server, *rollout_ids, **fields)) for name in sent(message)]


def sent(message: pb.WaitRolloutsResponse) -> list[str]:
    return [rollout.rollout_id for rollout in message.rollouts]


def error_info(error: grpc.aio.AioRpcError) -> Any:
    [raw] = [value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(raw).details[0].Unpack(info)
    return info


async def test_each_rollout_is_sent_as_it_ends(server: Any) -> None:
    ids = await ids_of(server, 2)
    call = wait(server, *ids, "ro-unknown")
    first = await call.read()
    assert (list(first.rollouts), first.pending_count, list(first.unknown_rollout_ids)) == ([], 2, ["ro-unknown"])
    for rollout_id, pending in zip(ids, (1, 0), strict=True):
        await cancel(server, rollout_id)
        message = await call.read()
        assert (sent(message), message.pending_count) == ([rollout_id], pending)
    assert await call.read() is grpc.aio.EOF


async def test_what_has_ended_is_sent_in_the_order_in_which_it_did(server: Any) -> None:
    ids = await ids_of(server, 3)
    await cancel_in_order(server, *reversed(ids))
    assert await ended(server, *ids) == ids[::-1]


async def test_a_rollout_named_twice_is_waited_for_once(server: Any) -> None:
    [rollout_id] = await ids_of(server, 1)
    call = wait(server, rollout_id, rollout_id)
    assert (await call.read()).pending_count == 1
    await cancel(server, rollout_id)
    assert [sent(message) for message in await rest(call)] == [[rollout_id]]


async def test_waiting_for_any_ends_with_the_first(server: Any) -> None:
    ids = await ids_of(server, 2)
    call = wait(server, *ids, any=True)
    await call.read()
    await cancel(server, ids[1])
    assert [sent(message) for message in await rest(call)] == [[ids[1]]]


async def test_waiting_for_any_again_waits_for_another(server: Any) -> None:
    ids = await ids_of(server, 3)
    await cancel(server, ids[0])
    [message] = await rest(wait(server, *ids, any=True))
    assert (sent(message), message.pending_count) == ([ids[0]], 2)
    again = wait(server, *ids, any=True, after_revision=message.revision)
    first = await again.read()
    assert (sent(first), first.pending_count) == ([], 2)
    await cancel(server, ids[2])
    assert [sent(message) for message in await rest(again)] == [[ids[2]]]


async def test_waiting_for_no_time_tells_what_has_ended_and_what_has_not(server: Any) -> None:
    ids = await ids_of(server, 2)
    await cancel(server, ids[0])
    [message] = await rest(wait(server, *ids, seconds=0))
    assert (sent(message), message.pending_count) == ([ids[0]], 1)


async def test_a_reward_after_the_end_is_not_another_end(server: Any) -> None:
    [rollout_id] = await ids_of(server, 1)
    attempt_id = (await server.dequeue()).attempt.attempt_id
    names = {"rollout_id": rollout_id, "attempt_id": attempt_id}
    await server.stub.CompleteAttempt(pb.CompleteAttemptRequest(**names, succeeded=SUCCEEDED))
    [message] = await rest(wait(server, rollout_id))
    reward = Attribute(key=PRIMARY_REWARD_VALUE, value=AttributeValue(double_value=0.5))
    late = Span(**names, trace_id="1" * 32, span_id="1" * 16, name="reward", attributes=[reward])
    await server.stub.AddSpans(pb.AddSpansRequest(spans=[late]))
    assert (await server.get(rollout_id)).revision > message.revision
    assert await ended(server, rollout_id, after_revision=message.revision) == []


async def test_what_was_reopened_is_waited_for_until_it_ends_again(server: Any) -> None:
    [rollout_id] = await ids_of(server, 1)
    await cancel(server, rollout_id)
    [before] = await rest(wait(server, rollout_id))
    await set_status(server, rollout_id, RolloutStatus.ROLLOUT_STATUS_REQUEUING)
    call = wait(server, rollout_id, after_revision=before.revision)
    assert (await call.read()).pending_count == 1
    await set_status(server, rollout_id, RolloutStatus.ROLLOUT_STATUS_FAILED)
    [message] = await rest(call)
    assert [rollout.status for rollout in message.rollouts] == [RolloutStatus.ROLLOUT_STATUS_FAILED]


async def test_many_that_end_at_once_come_in_few_messages(server: Any) -> None:
    ids = await ids_of(server, 1000)
    call = wait(server, *ids)
    await call.read()
    await cancel(server, *ids)
    messages = await rest(call)
    assert sorted(rollout_id for message in messages for rollout_id in sent(message)) == sorted(ids)
    assert len(messages) == 2


async def test_a_message_stays_small_and_says_how_far_it_went(server: Any) -> None:
    """Who breaks off after any of the messages goes on with just the rest."""
    ids = [(await ids_of(server, 1, LARGE))[0] for _ in range(5)]
    await cancel_in_order(server, *ids)
    messages = await rest(wait(server, *ids))
    assert [sent(message) for message in messages] == [ids[:2], ids[2:4], ids[4:]]
    assert [message.pending_count for message in messages] == [3, 1, 0]
    assert all(message.ByteSize() <= MESSAGE_BYTES for message in messages)
    for number, message in enumerate(messages, start=1):
        assert await ended(server, *ids, after_revision=message.revision) == ids[2 * number :]


async def test_a_rollout_too_large_for_a_message_goes_alone(server: Any) -> None:
    small, large = [(await ids_of(server, 1, task))[0] for task in ("1", '"' + "x" * (3 << 20) + '"')]
    await cancel_in_order(server, small, large)
    assert [sent(message) for message in await rest(wait(server, small, large))] == [[small], [large]]


async def test_ten_thousand_may_be_waited_for_in_one_call(server: Any) -> None:
    ids = await ids_of(server, 1000)
    unknown = [f"ro-{number}" for number in range(9_000)]
    call = wait(server, *ids, *unknown)
    first = await call.read()
    assert (len(first.unknown_rollout_ids), first.pending_count) == (9_000, 1000)
    await cancel(server, *ids)
    assert sum(len(message.rollouts) for message in await rest(call)) == 1000


async def test_a_revision_that_is_not_reached_is_refused(server: Any) -> None:
    """It is of another store, or of a newer copy: ends up to it would be passed over."""
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await ended(server, "ro-x", after_revision=9)
    info = error_info(refusal.value)
    assert refusal.value.code() is grpc.StatusCode.OUT_OF_RANGE
    assert (info.reason, info.metadata["after_revision"]) == ("REVISION_OUT_OF_RANGE", "9")


async def test_who_hangs_up_is_forgotten(monkeypatch: pytest.MonkeyPatch, start: Any) -> None:
    left = asyncio.Event()

    class Seen(Waits):
        @contextmanager
        def wait_for(self, rollout_ids: Any) -> Iterator[Wait]:
            try:
                with super().wait_for(rollout_ids) as wait:
                    yield wait
            finally:
                if not self._waits and not self._all:
                    left.set()

    monkeypatch.setattr(dispatcher, "Waits", Seen)
    server = await start()
    ids = await ids_of(server, 3)
    calls = [wait(server, *ids) for _ in range(50)]
    for call in calls:
        await call.read()
    for call in calls:
        call.cancel()
    async with asyncio.timeout(BOUND):
        await left.wait()


async def end(server: Any, ids: list[str]) -> None:
    """End all, one by one, with changes of what has ended in between."""
    for rollout_id in ids:
        await cancel(server, rollout_id)
        changed = Rollout(rollout_id=rollout_id, metadata_json="{}")
        mask = FieldMask(paths=["metadata_json"])
        await server.stub.UpdateRollout(pb.UpdateRolloutRequest(rollout=changed, update_mask=mask))


async def collect(server: Any, ids: list[str], chance: random.Random) -> tuple[Counter[str], int]:
    """What one who breaks off after every few messages is sent in all, and how often it broke off."""
    seen: Counter[str] = Counter()
    revision, pending, breaks = 0, len(ids), 0
    while pending:
        call = wait(server, *ids, after_revision=revision)
        for _ in range(chance.randint(1, 3)):
            if pending and (message := await call.read()) is not grpc.aio.EOF:
                seen.update(sent(message))
                revision, pending = message.revision, message.pending_count
        call.cancel()
        breaks += 1
    return seen, breaks


async def test_over_many_breaks_nobody_misses_an_end_or_is_told_twice(server: Any) -> None:
    """R8: each resumes with all its ids and the last revision that it read."""
    ids = await ids_of(server, 200)
    waiting = [collect(server, ids, random.Random(number)) for number in range(WAITERS)]
    ending = [end(server, ids[number::ENDERS]) for number in range(ENDERS)]
    found = (await asyncio.gather(*waiting, *ending))[:WAITERS]
    missed = sum(len(set(ids) - seen.keys()) for seen, _ in found)
    doubled = sum(count - 1 for seen, _ in found for count in seen.values())
    breaks = sum(breaks for _, breaks in found)
    print(f"waiters={WAITERS} breaks={breaks} ends={WAITERS * len(ids)} missed={missed} doubled={doubled}")
    assert breaks >= BREAKS
    assert (missed, doubled) == (0, 0)
