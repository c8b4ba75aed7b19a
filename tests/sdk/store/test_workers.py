"""Workers: what they say about themselves, and what their attempts say about them."""

import agentlightning as agl
import pytest


@pytest.fixture
def name(store: agl.LightningStoreClient) -> str:
    """A worker of the test's own."""
    return f"worker-{store.queue}"


async def read(store: agl.LightningStoreClient, name: str) -> agl.Worker:
    worker = await store.get_worker_by_id(name)
    assert worker is not None
    return worker


async def test_an_unknown_worker_is_none(store: agl.LightningStoreClient) -> None:
    assert await store.get_worker_by_id("nobody") is None


async def test_what_a_worker_says_is_kept_until_it_says_something_else(
    store: agl.LightningStoreClient, name: str
) -> None:
    first = await store.update_worker(name, heartbeat_stats={"cpu": 0.5})
    assert (first.status, first.heartbeat_stats) == ("unknown", {"cpu": 0.5})
    second = await store.update_worker(name)
    assert second.heartbeat_stats == {"cpu": 0.5}
    assert first.last_heartbeat_time is not None
    assert second.last_heartbeat_time is not None
    assert second.last_heartbeat_time > first.last_heartbeat_time
    assert (await store.update_worker(name, {"gpu": 1})).heartbeat_stats == {"gpu": 1}


async def test_a_worker_is_busy_with_what_it_claims_and_idle_after(store: agl.LightningStoreClient, name: str) -> None:
    await store.update_worker(name, {"cpu": 0.5})
    await store.enqueue_rollout("task")
    claimed = await store.dequeue_rollout(worker_id=name)
    assert claimed is not None
    busy = await read(store, name)
    assert (busy.status, busy.current_rollout_id, busy.current_attempt_id) == (
        "busy",
        claimed.rollout_id,
        claimed.attempt.attempt_id,
    )
    assert None not in (busy.last_dequeue_time, busy.last_busy_time)
    await store.complete_attempt(claimed.rollout_id, claimed.attempt.attempt_id)
    idle = await read(store, name)
    assert (idle.status, idle.current_rollout_id, idle.current_attempt_id) == ("idle", None, None)
    assert (idle.heartbeat_stats, idle.last_heartbeat_time) == ({"cpu": 0.5}, busy.last_heartbeat_time)
    assert idle.last_idle_time is not None


async def test_a_worker_may_start_its_own_work(store: agl.LightningStoreClient, name: str) -> None:
    started = await store.start_rollout("task", worker_id=name)
    assert (await read(store, name)).current_attempt_id == started.attempt.attempt_id
    again = await store.start_attempt(started.rollout_id, worker_id=name)
    assert (await read(store, name)).current_attempt_id == again.attempt.attempt_id


@pytest.mark.parametrize(
    ("attempt", "worker"),
    [
        ("running", "busy"),
        ("succeeded", "idle"),
        ("failed", "idle"),
        ("cancelled", "idle"),
        ("timeout", "unknown"),
        ("unresponsive", "unknown"),
    ],
)
async def test_a_worker_follows_the_attempt_that_is_given_to_it(
    store: agl.LightningStoreClient, name: str, attempt: agl.AttemptStatus, worker: str
) -> None:
    started = await store.start_rollout("task")
    await store.update_attempt(started.rollout_id, "latest", worker_id=name, status=attempt)
    assert (await read(store, name)).status == worker


async def test_a_worker_whose_attempt_is_given_to_another_is_free(store: agl.LightningStoreClient, name: str) -> None:
    started = await store.start_rollout("task", worker_id=name)
    await store.update_attempt(started.rollout_id, "latest", worker_id=f"{name}-2")
    assert (await read(store, name)).status == "idle"
    assert (await read(store, f"{name}-2")).status == "busy"


async def test_a_worker_that_asks_in_vain_is_idle(store: agl.LightningStoreClient, name: str) -> None:
    assert await store.dequeue_rollout(worker_id=name) is None
    worker = await read(store, name)
    assert worker.status == "idle"
    assert worker.last_dequeue_time is not None


async def test_a_worker_tells_which_queue_it_last_asked(store: agl.LightningStoreClient, name: str) -> None:
    assert (await store.update_worker(name)).queue is None
    other = agl.LightningStoreClient(store.server_address, queue="rooms")
    for asked in (store, other):
        await asked.dequeue_rollout(worker_id=name)
        assert (await read(store, name)).queue == asked.queue
