import asyncio
import threading

import pytest
from agentlightning_algorithms.gepa.bridge import Bridge


def bridges() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "bridge"]


async def answer(value: int) -> int:
    return value


async def test_what_the_thread_asks_for_is_done_on_the_loop_of_the_caller() -> None:
    bridge = Bridge()
    here = asyncio.get_running_loop()

    async def whose() -> bool:
        return asyncio.get_running_loop() is here

    assert await bridge.run(lambda: bridge.ask(whose))


async def test_the_thread_gets_its_answers_in_turn() -> None:
    bridge = Bridge()
    assert await bridge.run(lambda: [bridge.ask(lambda number=n: answer(number)) for n in range(3)]) == [0, 1, 2]


async def test_an_error_of_the_thread_is_that_of_the_caller() -> None:
    def fail() -> None:
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        await Bridge().run(fail)


async def test_an_error_of_the_work_ends_the_thread_even_if_it_swallows_exceptions() -> None:
    bridge = Bridge()

    async def fail() -> None:
        raise KeyError("lost")

    def stubborn() -> None:
        while True:
            try:
                bridge.ask(fail)
            except Exception:
                continue

    with pytest.raises(KeyError, match="lost"):
        await bridge.run(stubborn)
    assert bridges() == []


async def test_cancelling_ends_the_work_first_and_then_the_thread() -> None:
    bridge = Bridge()
    began, order = asyncio.Event(), list[str]()

    async def wait() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            order.append("work")

    def ask() -> None:
        try:
            bridge.ask(wait)
        finally:
            order.append("thread")

    running = asyncio.create_task(bridge.run(ask))
    await began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert order == ["work", "thread"]
    assert bridges() == []


async def test_a_thread_that_asks_when_all_is_over_is_refused() -> None:
    bridge = Bridge()
    began, may_ask = asyncio.Event(), threading.Event()

    def ask_late() -> None:
        bridge.ask(note)
        may_ask.wait()
        bridge.ask(note)

    async def note() -> None:
        began.set()

    running = asyncio.create_task(bridge.run(ask_late))
    await began.wait()
    running.cancel()
    asyncio.get_running_loop().call_soon(may_ask.set)
    with pytest.raises(asyncio.CancelledError):
        await running
    assert bridges() == []
