"""Watching the store: woken by changes alone, told the latest state once, and of every deletion or of none."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from agentlightning.v1.store_service_pb2 import WatchResponse
from agentlightning_server.dispatch.watches import Watches
from agentlightning_server.errors import StoreError
from agentlightning_server.storage import attempts, rollouts, workers

MANY = 1000


def watch(store: Any, after: int = 0, run_id: str = "", queue: str = "") -> AsyncGenerator[WatchResponse, None]:
    watching: AsyncGenerator[WatchResponse, None] = store.dispatcher.watch(after, run_id=run_id, queue=queue)
    return watching


def ids_of(message: WatchResponse) -> list[str]:
    return [change.rollout.rollout_id or change.deleted.rollout_id for change in message.changes]


async def test_a_watcher_is_woken_once_for_all_that_has_changed() -> None:
    watches = Watches()
    with watches.watcher() as changed:
        watches.wake_all()
        watches.wake_all()
        assert await changed.wait()
        changed.clear()
        assert not changed.is_set()


async def test_who_goes_away_is_forgotten(store: Any) -> None:
    watching = watch(store)
    await anext(watching)
    assert store.dispatcher._watches._watchers
    more = asyncio.ensure_future(anext(watching))
    await store.revision()  # it waits by now
    more.cancel()
    with pytest.raises(asyncio.CancelledError):
        await more
    assert not store.dispatcher._watches._watchers


async def test_many_watchers_read_nothing_while_nothing_changes(store: Any) -> None:
    await store.enqueue()
    await store.dispatcher.write(lambda tx: workers.heartbeat(tx, "w", ""))
    [held] = await store.dispatcher.write(lambda tx: rollouts.claim(tx, "default", ["w"], 1, 1_000_000))
    await store.dispatcher.write(lambda tx: attempts.heartbeat(tx, held.attempt))
    watching = [watch(store, await store.revision()) for _ in range(MANY)]
    await asyncio.gather(*map(anext, watching))
    tasks = [asyncio.ensure_future(anext(one)) for one in watching]
    await store.revision()
    store.reads = 0
    await store.dispatcher.write(lambda tx: attempts.heartbeat(tx, held.attempt))
    await store.dispatcher.write(lambda tx: workers.heartbeat(tx, "w", '{"cpu": 1}'))
    await store.revision()
    assert store.reads == 1
    assert not any(task.done() for task in tasks)
    [rollout_id] = await store.enqueue()
    assert [ids_of(message) for message in await asyncio.gather(*tasks)] == [[rollout_id]] * MANY
    for one in watching:
        await one.aclose()
    assert not store.dispatcher._watches._watchers


async def test_a_slow_watcher_is_told_the_latest_state_alone(store: Any) -> None:
    watching = watch(store)
    await anext(watching)
    ids = await store.enqueue(2)
    await store.cancel(ids[0])
    message = await anext(watching)
    assert (ids_of(message), message.revision) == ([ids[1], ids[0]], await store.revision())


async def test_a_deletion_is_told_in_its_place(store: Any) -> None:
    kept, deleted = await store.enqueue(2)
    watching = watch(store, await store.revision())
    await anext(watching)
    await store.delete(deleted)
    await store.cancel(kept)
    assert ids_of(await anext(watching)) == [deleted, kept]


async def test_who_has_been_told_nothing_is_told_of_no_deletion_before(store: Any) -> None:
    kept, deleted, later = await store.enqueue(3)
    await store.delete(deleted)
    watching = watch(store)
    assert ids_of(await anext(watching)) == [kept, later]
    await store.delete(later)
    assert ids_of(await anext(watching)) == [later]


async def test_a_watch_from_before_a_deletion_that_is_forgotten_is_refused(store: Any) -> None:
    await store.delete(*await store.enqueue())
    forgotten = await store.revision()
    await store.forget_deletions()
    [kept] = await store.enqueue()
    with pytest.raises(StoreError) as refusal:
        await anext(watch(store, forgotten - 1))
    assert refusal.value.metadata == {
        "after_revision": str(forgotten - 1),
        "oldest_revision": str(forgotten),
        "revision": str(await store.revision()),
    }
    for after in (0, forgotten):
        assert ids_of(await anext(watch(store, after))) == [kept]


async def test_a_watcher_too_slow_for_a_deletion_before_it_is_forgotten_is_refused(store: Any) -> None:
    watching = watch(store)
    await anext(watching)
    await store.delete(*await store.enqueue())
    await store.forget_deletions()
    with pytest.raises(StoreError, match="older than what is remembered"):
        await anext(watching)


async def test_one_that_catches_up_from_nothing_is_not_held_to_what_was_forgotten_before(store: Any) -> None:
    ids = await store.enqueue(3, input_json='"' + "x" * (1 << 20) + '"')
    await store.delete(*await store.enqueue())
    await store.forget_deletions()
    watching = watch(store)
    assert [ids_of(await anext(watching)) for _ in ids] == [[rollout_id] for rollout_id in ids]


async def test_watchers_are_told_that_the_server_is_going(store: Any) -> None:
    watching = watch(store)
    await anext(watching)
    store.dispatcher.drain()
    with pytest.raises(StoreError, match="going away"):
        await anext(watching)
    assert not store.dispatcher._watches._watchers
