"""Waiting for rollouts: nobody is told twice, nothing is left behind, and what a message says may be relied on."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from agentlightning.semconv import PRIMARY_REWARD_VALUE
from agentlightning.v1.rollout_pb2 import RolloutStatus
from agentlightning.v1.span_pb2 import Attribute, AttributeValue, Span
from agentlightning.v1.store_service_pb2 import WaitRolloutsResponse
from agentlightning_server.dispatch.waits import Waits
from agentlightning_server.errors import StoreError
from agentlightning_server.lifecycle.states import RolloutStatus as Status
from agentlightning_server.storage import attempts, endings, rollouts

MANY = 1000


def wait_for(store: Any, *rollout_ids: str, **how: Any) -> AsyncGenerator[WaitRolloutsResponse, None]:
    how = {"any_of": False, "after_revision": 0, "wait_seconds": None} | how
    waiting: AsyncGenerator[WaitRolloutsResponse, None] = store.dispatcher.wait(rollout_ids, **how)
    return waiting


def sent(message: WaitRolloutsResponse) -> list[str]:
    return [rollout.rollout_id for rollout in message.rollouts]


def is_empty(waits: Waits) -> bool:
    return not waits._waits and not waits._all


async def test_a_waiter_is_told_of_what_it_waits_for_once_however_often_it_ends() -> None:
    waits = Waits()
    with waits.wait_for(["a", "b"]) as wait:
        waits.tell(["a", "x"], 1)
        waits.tell(["a"], 2)
        assert await wait.next() == {"a"}
        assert wait.revision == 2


async def test_who_goes_away_is_forgotten(store: Any) -> None:
    ids = await store.enqueue(2)
    waiting = wait_for(store, *ids, "ro-unknown")
    await anext(waiting)
    assert not is_empty(store.dispatcher._waits)
    await waiting.aclose()
    assert is_empty(store.dispatcher._waits)


async def test_who_is_cut_off_while_waiting_is_forgotten(store: Any) -> None:
    waiting = wait_for(store, *await store.enqueue())
    await anext(waiting)
    more = asyncio.ensure_future(anext(waiting))
    await store.revision()  # it waits by now
    more.cancel()
    with pytest.raises(asyncio.CancelledError):
        await more
    assert is_empty(store.dispatcher._waits)


async def test_many_waiters_read_nothing_while_other_rollouts_end(store: Any) -> None:
    ids = await store.enqueue(MANY)
    others = await store.enqueue(3)
    waiting = [wait_for(store, rollout_id) for rollout_id in ids]
    await asyncio.gather(*map(anext, waiting))
    tasks = [asyncio.ensure_future(anext(one)) for one in waiting]
    store.reads = 0
    for other in others:
        await store.cancel(other)
    await store.revision()
    assert store.reads == 1
    await store.cancel(*ids)
    assert [sent(message) for message in await asyncio.gather(*tasks)] == [[rollout_id] for rollout_id in ids]
    for one in waiting:
        await one.aclose()
    assert is_empty(store.dispatcher._waits)


async def test_what_is_deleted_as_it_ends_is_unknown_and_waited_for_no_more(store: Any) -> None:
    kept, deleted = await store.enqueue(2)
    waiting = wait_for(store, kept, deleted)
    await anext(waiting)
    await store.delete(deleted)
    message = await anext(waiting)
    assert (sent(message), message.unknown_rollout_ids, message.pending_count) == ([], [deleted], 1)
    await store.cancel(kept)
    assert [sent(message) async for message in waiting] == [[kept]]


async def test_what_is_deleted_before_its_turn_is_unknown(store: Any) -> None:
    ids = await store.enqueue(3, input_json='"' + "x" * (1 << 20) + '"')
    await store.cancel(*ids)
    waiting = wait_for(store, *ids)
    first = await anext(waiting)
    assert sent(first) == ids[:1]
    await store.delete(*ids[1:])
    [second] = [message async for message in waiting]
    assert (sent(second), set(second.unknown_rollout_ids)) == ([], set(ids[1:]))


async def test_what_is_reopened_before_its_turn_is_sent_when_it_ends_again(store: Any) -> None:
    ids = await store.enqueue(2, input_json='"' + "x" * (1 << 20) + '"')
    await store.cancel(*ids)
    waiting = wait_for(store, *ids)
    await anext(waiting)
    await store.dispatcher.write(lambda tx: attempts.set_rollout_status(tx, ids[1], Status.REQUEUING))
    more = asyncio.ensure_future(anext(waiting))
    await store.revision()
    await store.dispatcher.write(lambda tx: attempts.set_rollout_status(tx, ids[1], Status.FAILED))
    message = await more
    assert [rollout.status for rollout in message.rollouts] == [RolloutStatus.ROLLOUT_STATUS_FAILED]
    assert [message async for message in waiting] == []


async def test_an_end_whose_notice_is_still_to_come_is_left_to_the_look_that_follows_it(store: Any) -> None:
    """Else a message would say a revision up to which another end has not been looked at."""
    ids = await store.enqueue(2)
    for rollout_id in ids:
        await store.cancel(rollout_id)
    first_end = await store.revision() - 1
    look = await store.dispatcher.read(lambda tx: endings.look(tx, ids, 0, first_end))
    assert (sent(look.message), look.message.revision) == (ids[:1], first_end)
    assert (look.settled, look.left) == (ids[:1], [])


async def test_a_reward_after_the_end_is_not_another_end(store: Any) -> None:
    """The rollout changes by it; it ended when it ended."""
    [rollout_id] = await store.enqueue()
    [lost] = await store.dispatcher.write(lambda tx: rollouts.claim(tx, "default", ["w"], 1, 1_000_000))
    await store.cancel(rollout_id)
    ended = await store.revision()
    reward = Attribute(key=PRIMARY_REWARD_VALUE, value=AttributeValue(double_value=1.0))
    span = Span(rollout_id=rollout_id, attempt_id=lost.attempt.attempt_id, span_id="a", attributes=[reward])
    await store.dispatcher.write(lambda tx: attempts.add_spans(tx, [span]))
    assert (await store.dispatcher.read(lambda tx: rollouts.get(tx, rollout_id))).revision > ended
    look = await store.dispatcher.read(lambda tx: endings.look(tx, [rollout_id], ended))
    assert (sent(look.message), look.settled) == ([], [rollout_id])


async def test_waiters_are_told_that_the_server_is_going(store: Any) -> None:
    waiting = wait_for(store, *await store.enqueue())
    await anext(waiting)
    store.dispatcher.drain()
    with pytest.raises(StoreError, match="going away"):
        await anext(waiting)
    assert is_empty(store.dispatcher._waits)
