"""Watching: each change in its latest state, from a revision on, across whatever breaks in between."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import agentlightning as agl
import pytest


async def revision_of(store: agl.LightningStoreClient) -> int:
    return (await store.statistics())["revision"]


async def until(changes: AsyncIterator[agl.Change], wanted: object) -> agl.Change:
    """The first change to what is wanted; others may merge before it."""
    async for change in changes:
        if change.object == wanted:
            return change
    raise AssertionError("a watch ended")


async def test_every_kind_of_change_comes_as_what_changed(store: agl.LightningStoreClient) -> None:
    begin = await revision_of(store)
    run = await store.create_run("APO")
    resources = await store.add_resources({"prompt": "one"})
    rollout = await store.enqueue_rollout("task")
    async with aclosing(store.watch(begin)) as changes:
        assert [(await anext(changes)).object for _ in range(3)] == [run, resources, rollout]
        claimed = await store.dequeue_rollout(worker_id=f"worker-{store.queue}")
        assert claimed is not None
        changed = [(await anext(changes)).object for _ in range(2)]
        assert {type(each) for each in changed} == {agl.AttemptedRollout, agl.Worker}


async def test_a_watch_begins_where_a_list_was_read(run_store: agl.LightningStoreClient) -> None:
    await run_store.enqueue_rollout("before")
    listed = await run_store.query_rollouts()
    later = await run_store.enqueue_rollout("later")
    async with aclosing(run_store.watch(listed.revision)) as changes:
        change = await anext(changes)
    assert change.object == later
    assert change.revision > listed.revision


async def test_a_bound_store_watches_its_run(
    store: agl.LightningStoreClient, run_store: agl.LightningStoreClient
) -> None:
    begin = await revision_of(store)
    await store.enqueue_rollout("of no run")
    mine = await run_store.enqueue_rollout("mine")
    async with aclosing(run_store.watch(begin)) as changes:
        assert (await anext(changes)).object == mine


async def test_a_watch_may_be_of_one_queue(store: agl.LightningStoreClient) -> None:
    begin = await revision_of(store)
    await store.bind(queue="another").enqueue_rollout("elsewhere")
    mine = await store.enqueue_rollout("mine")
    async with aclosing(store.watch(begin, queue=store.queue or "")) as changes:
        assert (await until(changes, mine)).object == mine


async def test_a_revision_that_the_store_has_not_reached_is_refused(store: agl.LightningStoreClient) -> None:
    with pytest.raises(agl.InvalidRequestError, match="list again") as refusal:
        async with aclosing(store.watch(1 << 40)) as changes:
            await anext(changes)
    assert refusal.value.reason == "REVISION_OUT_OF_RANGE"


async def test_a_watch_can_be_given_up(store: agl.LightningStoreClient) -> None:
    changes = store.watch(await revision_of(store))
    waiting = asyncio.ensure_future(anext(changes))
    await store.statistics()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await store.enqueue_rollout("nobody hears of it")
    with pytest.raises(StopAsyncIteration):
        await anext(changes)
