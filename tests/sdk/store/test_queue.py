"""The queue: what goes in comes out once, in order, as it went in."""

import asyncio
from dataclasses import dataclass

import agentlightning as agl
import pytest


async def test_an_enqueued_task_is_dequeued_completed_and_waited_for(store: agl.LightningStoreClient) -> None:
    enqueued = await store.enqueue_rollout({"question": "why?"}, mode="train", labels={"kind": "a"})
    assert (enqueued.status, enqueued.input, enqueued.mode) == ("queuing", {"question": "why?"}, "train")

    claimed = await store.dequeue_rollout(worker_id="Worker-0")
    assert claimed is not None
    assert (claimed.rollout_id, claimed.status, claimed.attempt.worker_id) == (
        enqueued.rollout_id,
        "preparing",
        "Worker-0",
    )

    await store.complete_attempt(claimed.rollout_id, claimed.attempt.attempt_id)
    [finished] = await store.wait_for_rollouts([enqueued.rollout_id], timeout=5)
    assert finished.status == "succeeded"
    assert finished.end_time is not None


async def test_a_waiting_dequeue_gets_what_is_enqueued_later(store: agl.LightningStoreClient) -> None:
    waiting = asyncio.create_task(store.dequeue_rollout(wait_seconds=20))
    enqueued = await store.enqueue_rollout("task")
    claimed = await waiting
    assert claimed is not None
    assert claimed.rollout_id == enqueued.rollout_id


async def test_an_empty_queue_gives_none(store: agl.LightningStoreClient) -> None:
    assert await store.dequeue_rollout() is None
    assert await store.dequeue_many_rollouts(limit=3) == []


async def test_two_queues_never_take_each_others_work(store: agl.LightningStoreClient) -> None:
    await store.enqueue_rollout("mine")
    assert await store.bind(queue="another").dequeue_rollout() is None
    assert await store.dequeue_rollout() is not None


async def test_a_dataclass_is_a_task(store: agl.LightningStoreClient) -> None:
    @dataclass
    class Task:
        attendees: int

    assert (await store.enqueue_rollout(Task(4))).input == {"attendees": 4}


async def test_a_rollout_comes_out_as_it_went_in(store: agl.LightningStoreClient) -> None:
    config = agl.RolloutConfig(
        timeout_seconds=12,
        unresponsive_seconds=3.5,
        max_attempts=3,
        retry_condition=["timeout", "failed"],
        max_redeliveries=1,
        retry_policies=[
            agl.RetryPolicy(kind="agent", max_retries=0, initial_backoff_seconds=1.5, max_backoff_seconds=9),
            agl.RetryPolicy(kind="infrastructure", backoff_multiplier=3),
        ],
    )
    enqueued = await store.enqueue_rollout(
        {"n": 1}, "test", "not-there-yet", config, {"by": "me"}, labels={"a": "b"}, priority=-4
    )
    claimed = await store.dequeue_rollout()
    assert claimed is not None
    for rollout in (enqueued, claimed, await store.get_rollout_by_id(enqueued.rollout_id)):
        assert rollout is not None
        assert (rollout.input, rollout.mode, rollout.resources_id) == ({"n": 1}, "test", "not-there-yet")
        assert (rollout.config, rollout.metadata, rollout.labels) == (config, {"by": "me"}, {"a": "b"})
        assert rollout.priority == -4


async def test_what_is_not_said_has_its_default(store: agl.LightningStoreClient) -> None:
    rollout = await store.enqueue_rollout(None)
    assert (rollout.input, rollout.mode, rollout.config) == (None, None, agl.RolloutConfig())
    assert (rollout.metadata, rollout.labels, rollout.priority, rollout.end_time) == ({}, {}, 0, None)


async def test_rollouts_come_first_in_first_out(store: agl.LightningStoreClient) -> None:
    for number in range(4):
        await store.enqueue_rollout(number)
    claimed = [await store.dequeue_rollout() for _ in range(5)]
    assert [rollout and rollout.input for rollout in claimed] == [0, 1, 2, 3, None]


async def test_a_higher_priority_comes_first(store: agl.LightningStoreClient) -> None:
    await store.enqueue_rollout("later")
    await store.enqueue_rollout("sooner", priority=1)
    assert [rollout.input for rollout in await store.dequeue_many_rollouts(limit=2)] == ["sooner", "later"]


async def test_many_are_enqueued_in_order_each_with_its_own_settings(store: agl.LightningStoreClient) -> None:
    enqueued = await store.enqueue_many_rollouts(
        [
            agl.EnqueueRolloutRequest(input=0, metadata={"batch": "a"}, priority=2),
            agl.EnqueueRolloutRequest(input=1, mode="train"),
            agl.EnqueueRolloutRequest(input=2, config=agl.RolloutConfig(timeout_seconds=3.5)),
        ]
    )
    assert [rollout.input for rollout in enqueued] == [0, 1, 2]
    assert (enqueued[0].metadata, enqueued[0].priority, enqueued[1].mode) == ({"batch": "a"}, 2, "train")
    assert enqueued[2].config.timeout_seconds == 3.5


async def test_none_enqueued_is_none(store: agl.LightningStoreClient) -> None:
    assert await store.enqueue_many_rollouts([]) == []


async def test_more_than_one_message_takes_is_enqueued_in_order(store: agl.LightningStoreClient) -> None:
    enqueued = await store.enqueue_many_rollouts([agl.EnqueueRolloutRequest(input=n) for n in range(1_005)])
    assert [rollout.input for rollout in enqueued] == list(range(1_005))


async def test_many_are_claimed_at_once_for_a_worker(store: agl.LightningStoreClient) -> None:
    await store.enqueue_many_rollouts([agl.EnqueueRolloutRequest(input=number) for number in range(3)])
    first = await store.dequeue_many_rollouts(limit=2, worker_id="bulk")
    assert [(rollout.input, rollout.attempt.worker_id) for rollout in first] == [(0, "bulk"), (1, "bulk")]
    assert [rollout.input for rollout in await store.dequeue_many_rollouts(limit=5)] == [2]


async def test_a_limit_of_zero_claims_nothing(store: agl.LightningStoreClient) -> None:
    await store.enqueue_rollout("task")
    assert await store.dequeue_many_rollouts(limit=0) == []
    assert await store.dequeue_rollout() is not None


async def test_what_has_ended_in_the_queue_is_not_delivered(store: agl.LightningStoreClient) -> None:
    ended, waiting = await store.enqueue_rollout("ended"), await store.enqueue_rollout("waiting")
    await store.update_rollout(ended.rollout_id, status="failed")
    claimed = await store.dequeue_many_rollouts(limit=2)
    assert [rollout.rollout_id for rollout in claimed] == [waiting.rollout_id]


async def test_a_requeued_rollout_is_delivered_as_another_attempt(store: agl.LightningStoreClient) -> None:
    await store.enqueue_rollout("task")
    first = await store.dequeue_rollout()
    assert first is not None
    assert await store.dequeue_rollout() is None
    await store.update_rollout(first.rollout_id, status="requeuing")
    second = await store.dequeue_rollout()
    assert second is not None
    assert (second.rollout_id, second.attempt.sequence_id, second.status) == (first.rollout_id, 2, "preparing")


async def test_each_of_many_tasks_goes_to_one_of_more_workers(store: agl.LightningStoreClient) -> None:
    await asyncio.gather(*(store.enqueue_rollout(number) for number in range(20)))
    claimed = await asyncio.gather(*(store.dequeue_rollout() for _ in range(30)))
    assert sorted(rollout.input for rollout in claimed if rollout is not None) == list(range(20))


async def test_a_back_off_says_when_the_rollout_is_delivered_again(store: agl.LightningStoreClient) -> None:
    policy = agl.RetryPolicy(kind="agent", initial_backoff_seconds=100)
    await store.enqueue_rollout("task", config=agl.RolloutConfig(max_attempts=2, retry_policies=[policy]))
    claimed = await store.dequeue_rollout()
    assert claimed is not None
    rollout = await store.complete_attempt(
        claimed.rollout_id, claimed.attempt.attempt_id, failure=agl.Failure(kind="agent")
    )
    assert rollout.status == "requeuing"
    assert rollout.available_time is not None
    assert rollout.available_time >= claimed.attempt.start_time + 100


@pytest.mark.parametrize("kind", ["train", "val", "test", None])
async def test_every_mode_is_kept(store: agl.LightningStoreClient, kind: agl.RolloutMode | None) -> None:
    assert (await store.enqueue_rollout("task", mode=kind)).mode == kind
