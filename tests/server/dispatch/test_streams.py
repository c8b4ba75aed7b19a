"""Streams without a wire: nothing is claimed for nobody, nothing lost is left untold, and nothing is remembered."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from agentlightning.v1.rollout_pb2 import Assignment
from agentlightning.v1.store_service_pb2 import AttemptRef, CompleteAttemptRequest, StreamDequeueRequest
from agentlightning_server.clock import SECOND
from agentlightning_server.dispatch.streams import WorkStream
from agentlightning_server.storage import attempts, rollouts

BOUND = 10


@contextmanager
def streaming(store: Any, **opening: Any) -> Iterator[WorkStream]:
    """A stream that has told of its opening."""
    with store.dispatcher.stream(StreamDequeueRequest.Open(**opening), 60 * SECOND) as stream:
        stream._outbox.clear()
        yield stream


async def assigned(stream: WorkStream) -> Assignment:
    async with asyncio.timeout(BOUND):
        message = await stream.next()
    assert message is not None
    assert message.HasField("assignment")
    return message.assignment


async def lost(stream: WorkStream) -> str:
    async with asyncio.timeout(BOUND):
        message = await stream.next()
    assert message is not None
    return message.lost.attempt.attempt_id


async def claim(store: Any) -> Assignment:
    [claimed] = await store.dispatcher.write(lambda tx: rollouts.claim(tx, "default", ["w"], 1, 60 * SECOND))
    return claimed


def ref(assignment: Assignment) -> AttemptRef:
    return AttemptRef(rollout_id=assignment.rollout.rollout_id, attempt_id=assignment.attempt.attempt_id)


async def test_what_is_claimed_and_lost_in_one_commit_is_told_in_that_order(store: Any) -> None:
    [rollout] = await store.enqueue_tasks()
    with streaming(store, credits=1) as stream:
        async with store.busy():
            next_ = asyncio.create_task(assigned(stream))
            await store.looking()
            cancelling = asyncio.create_task(store.dispatcher.write(lambda tx: attempts.cancel(tx, rollout.rollout_id)))
            await store.looking()
        await cancelling
        assignment = await next_
        assert await lost(stream) == assignment.attempt.attempt_id


async def test_what_is_claimed_for_a_stream_that_has_ended_is_given_back(store: Any) -> None:
    [rollout] = await store.enqueue_tasks()
    async with store.busy():
        with streaming(store, credits=1) as stream:
            next_ = asyncio.create_task(stream.next())
            await store.looking()
            next_.cancel()
            await asyncio.wait([next_])
    async with asyncio.timeout(BOUND):
        with streaming(store, credits=1) as stream:
            assignment = await assigned(stream)
    assert assignment.rollout.rollout_id == rollout.rollout_id
    assert assignment.rollout.redelivery_count == 0


async def test_what_is_claimed_for_a_stream_that_has_drained_is_given_back(store: Any) -> None:
    await store.enqueue_tasks()
    with streaming(store, credits=1) as stream:
        async with store.busy():
            next_ = asyncio.create_task(stream.next())
            await store.looking()
            stream.drain()
        stream.half_close()
        assert await next_ is None
    with streaming(store, credits=1) as stream:
        assert (await assigned(stream)).attempt.sequence_id == 2


async def test_what_was_not_said_when_the_stream_drained_is_given_back(store: Any) -> None:
    await store.enqueue_tasks("1", "2", "3")
    with streaming(store, credits=3) as stream:
        said = await assigned(stream)
        stream.drain()
        stream.half_close()
        assert await stream.next() is None
        with streaming(store, credits=3) as another:
            assert [(await assigned(another)).rollout.input_json for _ in range(2)] == ["2", "3"]
    assert await store.dispatcher.read(lambda tx: attempts.lost_of(tx, [ref(said)])) == []


async def test_what_is_lost_while_it_is_being_looked_up_is_told_once(store: Any) -> None:
    await store.enqueue_tasks("1", "2")
    first, second = await claim(store), await claim(store)
    with streaming(store) as stream:
        holding = asyncio.create_task(stream.hold([ref(first), ref(second)]))
        next_ = asyncio.create_task(lost(stream))
        await store.looking()
        await store.dispatcher.write(lambda tx: attempts.cancel(tx, first.rollout.rollout_id))
        assert await next_ == first.attempt.attempt_id
        await holding
        await store.dispatcher.write(lambda tx: attempts.cancel(tx, second.rollout.rollout_id))
        assert await lost(stream) == second.attempt.attempt_id


async def test_a_worker_is_heard_no_faster_than_it_listens(store: Any) -> None:
    with streaming(store) as stream:
        holding = asyncio.create_task(stream.hold([AttemptRef(attempt_id="first")]))
        assert await lost(stream) == "first"
        await holding
        holding = asyncio.create_task(stream.hold([AttemptRef(attempt_id="second")]))
        await store.looked()
        assert not holding.done()
        assert await lost(stream) == "second"
        await holding


async def test_a_wake_up_that_a_stream_did_not_use_is_handed_on(store: Any) -> None:
    with streaming(store, credits=1) as first, streaming(store, credits=1) as second:
        waiting = []
        for stream in (first, second):
            waiting.append(asyncio.create_task(stream.next()))
            await store.looked()
        waiting[0].cancel()  # it stays in line, and nobody listens
        await store.enqueue_tasks()
        first.drain()
        async with asyncio.timeout(BOUND):
            message = await waiting[1]
    assert message is not None
    assert message.HasField("assignment")


async def test_nothing_is_remembered_of_what_is_over(store: Any) -> None:
    streams = store.dispatcher._streams
    await store.enqueue_tasks(*map(str, range(6)))
    with streaming(store, credits=6) as stream, streaming(store) as another:
        held = [await assigned(stream) for _ in range(6)]
        holding = asyncio.create_task(another.hold([ref(assignment) for assignment in held]))
        next_ = asyncio.create_task(another.next())
        await holding
        completed, released, cancelled, superseded, *left = held
        done = CompleteAttemptRequest(
            rollout_id=completed.rollout.rollout_id,
            attempt_id=completed.attempt.attempt_id,
            succeeded=CompleteAttemptRequest.Succeeded(),
        )
        await store.dispatcher.write(lambda tx: attempts.complete(tx, done))
        await store.dispatcher.write(lambda tx: attempts.release(tx, ref(released)))
        await store.dispatcher.write(lambda tx: attempts.cancel(tx, cancelled.rollout.rollout_id))
        await store.dispatcher.write(lambda tx: attempts.start(tx, superseded.rollout.rollout_id, "w", None))
        assert {*streams._holders} == {assignment.attempt.attempt_id for assignment in left}
        assert stream._held == another._held == {*streams._holders}
        await next_
    assert not streams._holders
    assert not streams._open
    assert not store.dispatcher._queues._waiters
