"""Running one call of an agent, on the loop or in a thread, for as long as it may take. Knows no store and no spans."""

import asyncio
import contextvars
import inspect
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from agentlightning.errors import AgentError, AttemptTimeoutError
from agentlightning.runner.hold import Hold

_log = logging.getLogger(__name__)


class AttemptAbandoned(BaseException):
    """The attempt is no longer ours, and nobody is to be told how it ends. No failure, so no Exception."""


async def execute(call: Callable[[], Any], *, limit: float | None, hold: Hold) -> Any:
    """What the agent returns, awaited if it is awaitable.

    An agent that is not waited for any more is cancelled, and whatever it then returns or raises does not count.

    Args:
        call: The agent's call; on this loop if it is a coroutine function, in a thread of its own otherwise.
        limit: The seconds it may take.
        hold: The worker's hold on the attempt; over when this is.

    Raises:
        AttemptTimeoutError: When it took longer. A thread cannot be interrupted and runs on, unheard.
        AttemptAbandoned: When the attempt was lost meanwhile.
    """
    if hold.lost.done():
        raise AttemptAbandoned
    with hold.current():
        agent = asyncio.create_task(_outcome(call), name="agentlightning-agent")
    either: set[asyncio.Future[Any]] = {agent, hold.lost}
    try:
        ended, _ = await asyncio.wait(either, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hold.end()
        if agent.cancel():
            await asyncio.wait({agent})
    if hold.lost.done():
        raise AttemptAbandoned
    if not ended:
        raise AttemptTimeoutError(f"the agent did not finish within {limit:g} s")
    result, error = agent.result()
    if error:
        raise error
    return result


async def in_thread(call: Callable[[], Any]) -> Any:
    """What a call returns that runs in a thread of its own, within a copy of this context.

    The thread is a daemon: one that never ends is left behind when this is cancelled, and stops no program from ending.
    """
    outcome: Future[tuple[Any, BaseException | None]] = Future()
    outcome.set_running_or_notify_cancel()
    context = contextvars.copy_context()

    def run() -> None:
        # An exception is passed on as a value, as futures of asyncio cannot hold StopIteration.
        try:
            outcome.set_result((context.run(call), None))
        except BaseException as error:
            outcome.set_result((None, error))

    threading.Thread(target=run, name="agentlightning-agent", daemon=True).start()
    result, error = await asyncio.wrap_future(outcome)
    if error:
        raise error
    return result


async def _outcome(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    # An exception is passed on as a value, as a task that raises SystemExit ends the loop.
    try:
        return await _run(call), None
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        return None, error


async def _run(call: Callable[[], Any]) -> Any:
    try:
        result = await (call() if inspect.iscoroutinefunction(call) else _run_in_thread(call))
        while inspect.isawaitable(result):
            result = await result
        return result
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task and task.cancelling():
            raise
        raise AgentError("the agent was cancelled by something within it") from error


async def _run_in_thread(call: Callable[[], Any]) -> Any:
    try:
        return await in_thread(call)
    except asyncio.CancelledError:
        _log.warning("A thread is left behind: an agent that is not async cannot be interrupted.")
        raise
