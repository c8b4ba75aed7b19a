"""`agl.cancelled()`: how an agent that cannot be interrupted learns that nobody waits for it."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import agentlightning as agl
from agentlightning import LightningStoreClient
from agentlightning.emitter import emit_reward
from agentlightning.runner import LitAgentRunner, cancelled
from agentlightning.types import RolloutConfig

BOUND = 10.0


class Thread:
    """An agent in a thread that goes on until it is told, and says so."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.was_told = threading.Event()
        self.may_end = threading.Event()

    def __call__(self, task: str) -> float:
        self.began.set()
        _until(cancelled)
        self.was_told.set()
        self.may_end.wait(BOUND)
        return 1.0


def _until(condition: Callable[[], bool]) -> None:
    """Ask now and then, as agents do."""
    beat = threading.Event()
    for _ in range(1000):
        if condition() or beat.wait(BOUND / 1000):
            return


async def run_one(store: LightningStoreClient, agent: Callable[[str], Any], **options: Any) -> str:
    """The rollout that one run of a runner has run."""
    queued = await store.enqueue_rollout("task", **options)
    runner = LitAgentRunner[Any](max_rollouts=1)
    with runner.run_context(agent=agent, store=store):
        await runner.iter()
    return queued.rollout_id


def test_nothing_is_cancelled_outside_of_a_rollout() -> None:
    assert agl.cancelled() is False


async def test_a_rollout_in_progress_is_not_cancelled(store: LightningStoreClient) -> None:
    seen = []
    await run_one(store, lambda task: seen.append(cancelled()))
    assert seen == [False]


async def test_a_thread_learns_that_its_time_is_up(store: LightningStoreClient) -> None:
    agent = Thread()
    await run_one(store, lambda task: agent(task), config=RolloutConfig(timeout_seconds=0.1))
    assert await asyncio.to_thread(agent.was_told.wait, BOUND)
    agent.may_end.set()


async def test_a_thread_learns_that_its_rollout_was_cancelled(store: LightningStoreClient) -> None:
    agent = Thread()
    queued = await store.enqueue_rollout("task")
    runner = LitAgentRunner[str](max_rollouts=1)
    with runner.run_context(agent=lambda task: agent(task), store=store):
        running = asyncio.create_task(runner.iter())
        await asyncio.to_thread(agent.began.wait, BOUND)
        await store.cancel_rollouts([queued.rollout_id])
        assert await asyncio.to_thread(agent.was_told.wait, BOUND)
        agent.may_end.set()
        await running


async def test_a_thread_learns_that_its_runner_stops(store: LightningStoreClient) -> None:
    agent = Thread()
    await store.enqueue_rollout("task")
    runner = LitAgentRunner[str](max_rollouts=1)
    with runner.run_context(agent=lambda task: agent(task), store=store):
        running = asyncio.create_task(runner.iter())
        await asyncio.to_thread(agent.began.wait, BOUND)
        running.cancel()
        await asyncio.wait([running])
    assert await asyncio.to_thread(agent.was_told.wait, BOUND)
    agent.may_end.set()


async def test_a_thread_that_an_agent_started_learns_it_too(store: LightningStoreClient) -> None:
    agent = Thread()

    async def starts_a_thread(task: str) -> None:
        threading.Thread(target=agent, args=[task], daemon=True).start()
        await asyncio.get_running_loop().create_future()

    await run_one(store, starts_a_thread, config=RolloutConfig(timeout_seconds=0.1))
    assert await asyncio.to_thread(agent.was_told.wait, BOUND)
    agent.may_end.set()


async def test_an_agent_that_blocks_the_loop_learns_that_it_lost_its_rollout(store: LightningStoreClient) -> None:
    seen = []

    async def blocking(task: str, rollout_id: str) -> None:
        cancelling = threading.Thread(target=lambda: asyncio.run(store.cancel_rollouts([rollout_id])))
        cancelling.start()
        _until(cancelled)
        cancelling.join()
        seen.append(cancelled())

    await run_one(store, blocking)
    assert seen == [True]


async def test_an_async_agent_sees_it_while_it_cleans_up(store: LightningStoreClient) -> None:
    seen = []

    async def agent(task: str) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            seen.append(cancelled())

    await run_one(store, agent, config=RolloutConfig(timeout_seconds=0.1))
    assert seen == [True]


async def test_a_limit_of_the_agents_own_is_no_cancellation(store: LightningStoreClient) -> None:
    seen = []

    async def agent(task: str) -> None:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.get_running_loop().create_future()
        except TimeoutError:
            seen.append(cancelled())

    await run_one(store, agent)
    assert seen == [False]


async def test_what_a_thread_that_was_left_behind_records_is_dropped_quietly(
    store: LightningStoreClient, caplog
) -> None:
    agent, has_recorded = Thread(), threading.Event()

    def records_late(task: str) -> None:
        agent(task)
        emit_reward(1.0)
        has_recorded.set()

    queued = await store.enqueue_rollout("task", config=RolloutConfig(timeout_seconds=0.1))
    runner = LitAgentRunner[str](max_rollouts=1)
    with caplog.at_level("INFO"), runner.run_context(agent=records_late, store=store):
        await runner.iter()
        agent.may_end.set()
        assert await asyncio.to_thread(has_recorded.wait, BOUND)
    assert [span.name for span in await store.query_spans(queued.rollout_id)] == ["agentlightning.rollout"]
    assert "belonged to no rollout" not in caplog.text
