"""Callers that go away while their claim is being committed: what they took is not lost for a lease."""

import asyncio
from typing import Any

import pytest
from agentlightning.v1.rollout_pb2 import Assignment
from agentlightning.v1.store_service_pb2 import DequeueRolloutsRequest
from agentlightning_server.clock import SECOND
from agentlightning_server.errors import unavailable

BOUND = 10


async def dequeue(store: Any, wait_seconds: float = 0, **fields: Any) -> list[Assignment]:
    request = DequeueRolloutsRequest(**fields)
    claimed: list[Assignment] = await store.dispatcher.dequeue(
        request, limit=1, lease_duration=60 * SECOND, wait_seconds=wait_seconds
    )
    return claimed


async def test_what_a_caller_claimed_who_went_away_is_the_next_ones(store: Any) -> None:
    [rollout] = await store.enqueue_tasks()
    async with store.busy():
        claiming = asyncio.create_task(dequeue(store))
        await store.looking()
        claiming.cancel()
        await asyncio.wait([claiming])
    [assignment] = await dequeue(store, wait_seconds=BOUND)
    assert assignment.rollout.rollout_id == rollout.rollout_id
    assert assignment.attempt.sequence_id == 2
    assert assignment.rollout.redelivery_count == 0


async def test_what_a_caller_claimed_who_went_away_wakes_whoever_waits(store: Any) -> None:
    waiting = asyncio.create_task(dequeue(store, wait_seconds=BOUND))
    async with store.busy():
        enqueuing = asyncio.create_task(store.enqueue_tasks())
        claiming = asyncio.create_task(dequeue(store))
        await store.looking()
        claiming.cancel()
    await enqueuing
    assert len(await waiting) == 1


async def test_a_caller_who_goes_away_after_the_commit_leaves_nothing_claimed(store: Any) -> None:
    await store.enqueue_tasks()
    claiming = asyncio.create_task(dequeue(store))
    committed = asyncio.Event()
    on_commit = store.dispatcher.database._writer._on_commit

    def tell(notices: Any) -> None:
        on_commit(notices)
        claiming.cancel()
        committed.set()

    store.dispatcher.database._writer._on_commit = tell
    await committed.wait()
    store.dispatcher.database._writer._on_commit = on_commit
    await asyncio.wait([claiming])
    assert claiming.cancelled()
    assert len(await dequeue(store, wait_seconds=BOUND)) == 1


async def test_a_repeat_of_a_claim_that_was_given_back_finds_it_gone(store: Any) -> None:
    await store.enqueue_tasks()
    async with store.busy():
        claiming = asyncio.create_task(dequeue(store, request_id="once"))
        await store.looking()
        claiming.cancel()
    assert await dequeue(store, request_id="once") == []
    assert len(await dequeue(store, wait_seconds=BOUND)) == 1


async def test_a_wake_up_that_cannot_be_used_is_handed_on(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first in line is woken, and its claim fails."""
    claims = 0
    write = store.dispatcher.database.write

    async def failing(operation: Any) -> Any:
        nonlocal claims
        claims += operation.__name__ == "claim"
        if operation.__name__ == "claim" and claims == 3:
            raise unavailable("the disk is full")
        return await write(operation)

    monkeypatch.setattr(store.dispatcher.database, "write", failing)
    first = asyncio.create_task(dequeue(store, wait_seconds=BOUND))
    await store.looked()
    second = asyncio.create_task(dequeue(store, wait_seconds=BOUND))
    await store.looked()
    await store.enqueue_tasks()
    assert len(await second) == 1
    with pytest.raises(Exception, match="disk is full"):
        await first
