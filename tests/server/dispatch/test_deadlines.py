"""Deadlines: each fires once its time has come by the store's clock, in order, and none is lost when firing fails."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from agentlightning_server.clock import SECOND
from agentlightning_server.dispatch.deadlines import Deadlines, Due
from agentlightning_server.errors import unavailable
from hypothesis import given
from hypothesis import strategies as st

BOUND = 20
HOUR = 3600 * SECOND


class Looks:
    """Deadlines on the test's clock, and all that they fired."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.fired: list[Due] = []
        self.failures: list[Exception] = []
        self.news = asyncio.Event()
        self.deadlines = Deadlines(clock, self._look)

    async def _look(self, due: list[Due]) -> None:
        if self.failures:
            raise self.failures.pop()
        self.fired += due
        self.news.set()

    @asynccontextmanager
    async def timer(self) -> AsyncIterator["asyncio.Task[None]"]:
        """The timer runs while the block does."""
        timer = asyncio.create_task(self.deadlines.fire_for_ever())
        await asyncio.sleep(0)  # up to its first wait
        try:
            yield timer
        finally:
            timer.cancel()
            with suppress(asyncio.CancelledError):
                await timer


@pytest.fixture
async def looks(clock: Any) -> Looks:
    return Looks(clock)


async def test_what_is_due_fires_in_the_order_of_its_times(looks: Looks, clock: Any) -> None:
    first, second, third = [(clock() + number * SECOND, f"ro-{number}", "at") for number in (1, 2, 3)]
    looks.deadlines.add([third, first, second])
    clock.advance(2)
    await looks.deadlines.settle()
    assert looks.fired == [first, second]


async def test_nothing_fires_before_its_time(looks: Looks, clock: Any) -> None:
    looks.deadlines.add([(clock() + 1, "ro", "at")])
    await looks.deadlines.settle()
    assert looks.fired == []


async def test_what_has_fired_does_not_fire_again(looks: Looks, clock: Any) -> None:
    looks.deadlines.add([(clock(), "ro", "at")])
    await looks.deadlines.settle()
    await looks.deadlines.settle()
    assert len(looks.fired) == 1


async def test_what_becomes_due_while_others_fire_is_fired_too(looks: Looks, clock: Any) -> None:
    now = clock()

    async def look(due: list[Due]) -> None:
        looks.fired += due
        if len(looks.fired) == 1:
            deadlines.add([(now, "ro", "second")])

    deadlines = Deadlines(clock, look)
    deadlines.add([(now, "ro", "first")])
    await deadlines.settle()
    assert [attempt for _, _, attempt in looks.fired] == ["first", "second"]


async def test_a_failed_firing_leaves_all_of_it_due(looks: Looks, clock: Any) -> None:
    due = [(clock() - number, "ro", f"at-{number}") for number in range(3)]
    looks.failures.append(unavailable("the disk is full"))
    looks.deadlines.add(due)
    with pytest.raises(Exception, match="disk is full"):
        await looks.deadlines.settle()
    assert looks.fired == []
    await looks.deadlines.settle()
    assert looks.fired == sorted(due)


async def test_a_cancelled_firing_leaves_all_of_it_due(looks: Looks, clock: Any) -> None:
    begun = asyncio.Event()

    async def hang(due: list[Due]) -> None:
        if begun.is_set():
            looks.fired.extend(due)
        else:
            begun.set()
            await asyncio.Event().wait()

    deadlines = Deadlines(clock, hang)
    deadlines.add([(clock(), "ro", "at")])
    settling = asyncio.create_task(deadlines.settle())
    await begun.wait()
    settling.cancel()
    await asyncio.wait([settling])
    await deadlines.settle()
    assert len(looks.fired) == 1


async def test_nobody_passes_while_what_is_due_is_being_fired(clock: Any) -> None:
    """A read that comes while a deadline is being written must not show the state before it."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def look(due: list[Due]) -> None:
        begun.set()
        await go_on.wait()

    deadlines = Deadlines(clock, look)
    deadlines.add([(clock(), "ro", "at")])
    first = asyncio.create_task(deadlines.settle())
    await begun.wait()
    second = asyncio.create_task(deadlines.settle())
    for _ in range(10):
        await asyncio.sleep(0)
    passed = second.done()
    go_on.set()
    await asyncio.gather(first, second)
    assert not passed


async def test_the_timer_fires_what_is_due_already(looks: Looks, clock: Any) -> None:
    looks.deadlines.add([(clock() - HOUR, "ro", "at")])
    async with asyncio.timeout(BOUND), looks.timer():
        await looks.news.wait()
    assert len(looks.fired) == 1


async def test_an_earlier_deadline_wakes_the_timer(looks: Looks, clock: Any) -> None:
    late, early = (clock() + HOUR, "ro", "late"), (clock(), "ro", "early")
    looks.deadlines.add([late])
    async with asyncio.timeout(BOUND), looks.timer():
        looks.deadlines.add([early])
        await looks.news.wait()
    assert looks.fired == [early]


async def test_the_first_deadline_of_all_wakes_the_timer(looks: Looks, clock: Any) -> None:
    async with asyncio.timeout(BOUND), looks.timer():
        looks.deadlines.add([(clock(), "ro", "at")])
        await looks.news.wait()
    assert len(looks.fired) == 1


async def test_the_timer_outlives_a_disk_that_refuses_for_a_while(looks: Looks, clock: Any) -> None:
    looks.failures.append(unavailable("the disk is full"))
    async with asyncio.timeout(BOUND), looks.timer():
        looks.deadlines.add([(clock(), "ro", "at")])
        await looks.news.wait()
    assert len(looks.fired) == 1


@given(
    times=st.lists(st.integers(min_value=0, max_value=20)),
    steps=st.lists(st.integers(min_value=0, max_value=20), max_size=5),
)
def test_each_deadline_fires_once_at_the_first_look_after_its_time(times: list[int], steps: list[int]) -> None:
    """However the clock goes on between looks."""

    async def check() -> None:
        now = 0
        looks = Looks(lambda: now)
        due = [(time, "ro", f"at-{number}") for number, time in enumerate(times)]
        looks.deadlines.add(due)
        for step in steps:
            now += step
            await looks.deadlines.settle()
            assert looks.fired == sorted(one for one in due if one[0] <= now)

    asyncio.run(check())
