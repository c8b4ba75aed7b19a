import asyncio
import contextvars
import threading
from typing import Any

import pytest
from agentlightning.errors import AgentError, AttemptTimeoutError
from agentlightning.runner.execution import AttemptAbandoned, execute
from agentlightning.runner.hold import Hold


async def run(call, *, limit: float | None = None, hold: Hold | None = None) -> Any:
    return await execute(call, limit=limit, hold=hold or Hold())


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def test_a_coroutine_function_runs_on_the_loop() -> None:
    async def agent() -> Any:
        return threading.current_thread()

    assert await run(agent) is threading.current_thread()


async def test_a_function_runs_in_another_thread_within_this_context() -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
    variable.set(42)
    assert await run(lambda: (threading.current_thread() is threading.main_thread(), variable.get())) == (False, 42)


async def test_a_function_may_run_a_loop_of_its_own() -> None:
    assert await run(lambda: asyncio.run(asyncio.sleep(0, "done"))) == "done"


async def test_what_a_function_returns_is_awaited() -> None:
    assert await run(lambda: asyncio.sleep(0, "done")) == "done"


async def test_what_is_awaited_may_be_awaitable_again() -> None:
    async def agent() -> Any:
        return asyncio.sleep(0, asyncio.sleep(0, "done"))

    assert await run(agent) == "done"


@pytest.mark.parametrize("error", [ValueError, StopIteration, SystemExit, TimeoutError])
async def test_what_a_function_raises_is_raised(error) -> None:
    def agent() -> None:
        raise error("no room")

    with pytest.raises((error, RuntimeError), match=r"no room|raised StopIteration"):
        await run(agent)


async def test_an_async_agent_is_cancelled_when_its_time_is_up() -> None:
    cancelled = asyncio.Event()

    async def agent() -> None:
        try:
            await forever()
        finally:
            cancelled.set()

    with pytest.raises(AttemptTimeoutError, match=r"did not finish within 0\.01 s"):
        await run(agent, limit=0.01)
    assert cancelled.is_set()


async def test_a_late_answer_to_being_cancelled_does_not_count() -> None:
    async def agent() -> str:
        try:
            await forever()
        except asyncio.CancelledError:
            return "late"
        return ""

    with pytest.raises(AttemptTimeoutError):
        await run(agent, limit=0.01)


async def test_a_thread_is_left_behind_when_its_time_is_up(caplog) -> None:
    release = threading.Event()
    with pytest.raises(AttemptTimeoutError):
        await run(release.wait, limit=0.01)
    release.set()
    assert "A thread is left behind" in caplog.text


async def test_a_lost_attempt_is_abandoned() -> None:
    hold = Hold()

    async def agent() -> None:
        hold.lose(None)
        await forever()

    with pytest.raises(AttemptAbandoned):
        await run(agent, hold=hold)


async def test_an_attempt_that_was_lost_before_it_began_is_abandoned() -> None:
    hold = Hold()
    hold.lose(None)
    await asyncio.sleep(0)
    with pytest.raises(AttemptAbandoned):
        await run(forever, hold=hold)


async def test_an_agent_that_is_cancelled_from_within_has_failed() -> None:
    async def agent() -> None:
        task = asyncio.create_task(forever())
        task.cancel()
        await task

    with pytest.raises(AgentError, match="cancelled by something within it"):
        await run(agent)


async def test_being_cancelled_from_outside_is_no_failure_of_the_agent() -> None:
    task = asyncio.create_task(run(forever))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_thousand_short_calls_leave_no_threads_behind() -> None:
    before = threading.active_count()
    await asyncio.gather(*(run(lambda: None) for _ in range(1000)))
    assert threading.active_count() <= before + 1
