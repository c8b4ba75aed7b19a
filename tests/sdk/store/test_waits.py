"""Waiting: told as it happens, until all are done, one is, or the time is up."""

import asyncio

import agentlightning as agl
import pytest


async def test_waiting_tells_finished_from_unfinished_and_unknown(store: agl.LightningStoreClient) -> None:
    done = await store.start_rollout("done")
    await store.complete_attempt(done.rollout_id, done.attempt.attempt_id)
    open_ = await store.enqueue_rollout("open")
    finished = await store.wait_for_rollouts([open_.rollout_id, done.rollout_id, "ro-unknown"], timeout=0)
    assert [rollout.rollout_id for rollout in finished] == [done.rollout_id]


async def test_finished_rollouts_are_iterated_as_they_end(store: agl.LightningStoreClient) -> None:
    first, second = await store.start_rollout("a"), await store.start_rollout("b")
    seen = []
    await store.complete_attempt(second.rollout_id, second.attempt.attempt_id)
    async for rollout in store.iter_finished([first.rollout_id, second.rollout_id]):
        seen.append(rollout.rollout_id)
        if len(seen) == 1:
            await store.complete_attempt(first.rollout_id, first.attempt.attempt_id)
    assert seen == [second.rollout_id, first.rollout_id]


async def test_a_wait_ends_when_the_last_does(store: agl.LightningStoreClient) -> None:
    rollouts = [await store.enqueue_rollout(number) for number in range(3)]
    ids = [rollout.rollout_id for rollout in rollouts]
    waiting = [asyncio.create_task(store.wait_for_rollouts(rollout_ids=ids)) for _ in range(3)]
    for rollout_id, status in zip(reversed(ids), ["succeeded", "failed", "cancelled"], strict=True):
        await store.update_rollout(rollout_id, status=status)  # type: ignore[arg-type]
    for finished in await asyncio.gather(*waiting):
        assert [(rollout.rollout_id, rollout.status) for rollout in finished] == [
            (ids[0], "cancelled"),
            (ids[1], "failed"),
            (ids[2], "succeeded"),
        ]


async def test_a_wait_for_any_ends_with_the_first(store: agl.LightningStoreClient) -> None:
    first, second = await store.enqueue_rollout("a"), await store.enqueue_rollout("b")
    ids = [first.rollout_id, second.rollout_id]
    waiting = asyncio.create_task(store.wait_for_rollouts(ids, any_of=True))
    await store.update_rollout(second.rollout_id, status="succeeded")
    assert [rollout.rollout_id for rollout in await waiting] == [second.rollout_id]


async def test_a_wait_whose_time_is_up_tells_what_there_is(store: agl.LightningStoreClient) -> None:
    done, open_ = await store.enqueue_rollout("done"), await store.enqueue_rollout("open")
    await store.update_rollout(done.rollout_id, status="succeeded")
    finished = await store.wait_for_rollouts(rollout_ids=[open_.rollout_id, done.rollout_id], timeout=0.05)
    assert [rollout.rollout_id for rollout in finished] == [done.rollout_id]


async def test_a_rollout_asked_for_twice_is_answered_twice(store: agl.LightningStoreClient) -> None:
    done = await store.enqueue_rollout("done")
    await store.update_rollout(done.rollout_id, status="succeeded")
    assert len(await store.wait_for_rollouts([done.rollout_id] * 2)) == 2


async def test_only_unknown_rollouts_are_not_waited_for(store: agl.LightningStoreClient) -> None:
    assert await store.wait_for_rollouts(rollout_ids=["ro-unknown"]) == []
    assert await store.wait_for_rollouts(rollout_ids=[]) == []


async def test_a_wait_can_be_given_up(store: agl.LightningStoreClient) -> None:
    rollout = await store.enqueue_rollout("open")
    waiting = asyncio.create_task(store.wait_for_rollouts([rollout.rollout_id]))
    await store.statistics()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
