"""Standing in line: nobody is woken for nothing, and no wake-up is lost."""

import asyncio
from collections import Counter

from agentlightning_server.dispatch.queues import Queues

FAR = 1e9


async def test_as_many_are_woken_as_rollouts_came_the_longest_waiting_first() -> None:
    queues = Queues()
    with queues.waiter("q") as first, queues.waiter("q") as second, queues.waiter("q") as third:
        queues.wake(Counter(q=2))
        assert [waiter.woken for waiter in (first, second, third)] == [True, True, False]
        for waiter in (first, second):
            assert await waiter.wait_until(FAR)


async def test_a_worker_that_leaves_with_a_wake_up_unused_hands_it_on() -> None:
    queues = Queues()
    with queues.waiter("q") as second:
        with queues.waiter("q") as first:
            queues._waiters["q"].rotate()
            queues.wake(Counter(q=1))
            assert first.woken
            assert not second.woken
        assert second.woken
        assert await second.wait_until(FAR)


async def test_a_worker_that_used_its_wake_up_hands_on_nothing() -> None:
    queues = Queues()
    with queues.waiter("q") as second:
        with queues.waiter("q") as first:
            queues._waiters["q"].rotate()
            queues.wake(Counter(q=1))
            assert await first.wait_until(FAR)
        assert not second.woken


async def test_a_wake_up_at_the_last_moment_counts() -> None:
    queues = Queues()
    with queues.waiter("q") as waiter:
        queues.wake(Counter(q=1))
        assert await waiter.wait_until(asyncio.get_running_loop().time() - 1)
        assert not await waiter.wait_until(asyncio.get_running_loop().time() - 1)
