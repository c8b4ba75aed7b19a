"""The fixtures, and what a clock that the test moves brings about."""

import asyncio
from contextlib import closing

import agentlightning as agl
import pytest
from agentlightning.testing import FakeClock

BOUND = 10.0


async def test_tests_share_a_server_and_no_work(store: agl.LightningStoreClient, store_address: str) -> None:
    await agl.LightningStoreClient(store_address, queue="another").enqueue_rollout("task")
    assert await store.dequeue_rollout() is None


def test_a_plain_test_has_them_too(store: agl.LightningStoreClient) -> None:
    with closing(asyncio.new_event_loop()) as loop:
        assert loop.run_until_complete(store.enqueue_rollout("task")).status == "queuing"


async def test_the_store_goes_by_the_clock(clocked_store: agl.LightningStoreClient, clock: FakeClock) -> None:
    first = await clocked_store.enqueue_rollout("task")
    clock.advance(3600)
    second = await clocked_store.enqueue_rollout("task")
    assert second.start_time - first.start_time == pytest.approx(3600)


async def test_a_lease_is_over_at_once_and_who_waits_is_given_the_rollout(
    clocked_store: agl.LightningStoreClient, clock: FakeClock
) -> None:
    await clocked_store.enqueue_rollout("task")
    lost = await clocked_store.dequeue_rollout()
    assert lost is not None
    waiting = asyncio.create_task(clocked_store.dequeue_rollout(wait_seconds=BOUND))
    clock.advance(61)
    again = await waiting
    assert again is not None
    assert (again.rollout_id, again.attempt.sequence_id) == (lost.rollout_id, 2)


async def test_a_timeout_ends_an_agent_that_hangs(clocked_store: agl.LightningStoreClient, clock: FakeClock) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def hang(task: str) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    config = agl.RolloutConfig(timeout_seconds=30)
    rollout = await clocked_store.enqueue_rollout("task", config=config)
    runner = agl.LitAgentRunner[str](max_rollouts=1)
    with runner.run_context(agent=hang, store=clocked_store):
        running = asyncio.create_task(runner.iter())
        await begun.wait()
        clock.advance(30)
        await asyncio.wait_for(ended.wait(), BOUND)
        await running
    attempt = await clocked_store.get_latest_attempt(rollout.rollout_id)
    assert attempt is not None
    assert attempt.status == "timeout"


async def test_a_back_off_is_over_when_the_test_says_so(
    clocked_store: agl.LightningStoreClient, clock: FakeClock
) -> None:
    pause = agl.RetryPolicy(kind="agent", initial_backoff_seconds=100)
    await clocked_store.enqueue_rollout("task", config=agl.RolloutConfig(max_attempts=2, retry_policies=[pause]))
    failed = await clocked_store.dequeue_rollout()
    assert failed is not None
    await clocked_store.complete_attempt(
        failed.rollout_id, failed.attempt.attempt_id, failure=agl.Failure(kind="agent")
    )
    clock.advance(99)
    assert await clocked_store.dequeue_rollout() is None
    waiting = asyncio.create_task(clocked_store.dequeue_rollout(wait_seconds=BOUND))
    clock.advance(1)
    assert await waiting is not None
