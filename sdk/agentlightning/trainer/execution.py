"""Where a trainer's runners run: in processes of their own, or in threads of this one. Knows no algorithm."""

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol

from agentlightning.litagent import LitAgent
from agentlightning.runner import LitAgentRunner
from agentlightning.store import LightningStoreClient
from agentlightning.store.connection import is_in_use
from agentlightning.trainer.processes import RunnerProcesses

_log = logging.getLogger(__name__)

Strategy = Literal["processes", "threads"]
OnDeath = Callable[[int, int], Awaitable[None]]
"""Told the number of a runner that died and its exit code."""


class Runners(Protocol):
    """Runners that are at work between `start` and `stop`."""

    def start(self) -> None:
        """Begin to take rollouts."""

    def stop(self) -> None:
        """Take no more, and end within a few seconds."""

    async def watch(self, on_death: OnDeath) -> str:
        """Tell of each runner that dies; return when they cannot go on, with the reason."""


def runners_for(
    agent: LitAgent[Any], store: LightningStoreClient, count: int, strategy: Strategy | None, max_rollouts: int | None
) -> Runners:
    """Processes where they are possible, else threads, and said in one line why."""
    if strategy == "threads":
        return ThreadRunners(agent, store, count, max_rollouts)
    if (obstacle := _obstacle_to_forking()) is None:
        return ProcessRunners(agent, store, count, max_rollouts)
    _log.warning("The %d runners share this process: %s.", count, obstacle)
    return ThreadRunners(agent, store, count, max_rollouts)


class ProcessRunners:
    """One process a runner."""

    def __init__(self, agent: LitAgent[Any], store: LightningStoreClient, count: int, max_rollouts: int | None) -> None:
        self._agent = agent
        self._store = store
        self._max_rollouts = max_rollouts
        self._processes = RunnerProcesses(count, self._run)

    def start(self) -> None:
        """Fork them."""
        self._processes.start()

    def stop(self) -> None:
        """End them."""
        self._processes.stop()

    async def watch(self, on_death: OnDeath) -> str:
        """Hear what the supervisor says, until it gives up or is gone."""
        with os.fdopen(self._processes.news, "rb", buffering=0) as pipe:
            news = asyncio.StreamReader()
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(news), pipe
            )
            try:
                async for line in news:
                    match line.decode().split(maxsplit=2):
                        case ["died", number, code]:
                            await on_death(int(number), int(code))
                        case words:
                            return " ".join(words)
            finally:
                transport.close()
        return "the supervisor of the runners is gone"

    def _run(self, number: int, lifeline: int) -> None:
        runner: LitAgentRunner[Any] = LitAgentRunner(max_rollouts=self._max_rollouts)
        with runner.run_context(agent=self._agent, store=self._store, worker_id=number):
            asyncio.run(_until_closed(lifeline, runner))


class ThreadRunners:
    """One runner in a thread of this process, which does several rollouts at once."""

    def __init__(self, agent: LitAgent[Any], store: LightningStoreClient, count: int, max_rollouts: int | None) -> None:
        self._runner: LitAgentRunner[Any] = LitAgentRunner(max_rollouts=max_rollouts, max_concurrency=count)
        self._agent = agent
        self._store = store
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="runners", daemon=True)
        self._lifeline, self._end_of_line = os.pipe()
        self._ended, self._end = os.pipe()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; an agent that blocks is left behind in its own."""
        os.close(self._end_of_line)
        self._thread.join()
        os.close(self._lifeline)
        os.close(self._ended)

    async def watch(self, on_death: OnDeath) -> str:
        """Wait until the thread has ended."""
        await _readable(self._ended)
        return f"the runner stopped: {self._failure or 'it has done its share'}"

    def _run(self) -> None:
        try:
            with self._runner.run_context(agent=self._agent, store=self._store, worker_id=0):
                asyncio.run(_until_closed(self._lifeline, self._runner))
        except Exception as error:
            self._failure = error
        finally:
            os.close(self._end)


async def _until_closed(lifeline: int, runner: LitAgentRunner[Any]) -> None:
    """Run rollouts until the other end of the lifeline is closed."""
    loop = asyncio.get_running_loop()
    work = asyncio.create_task(runner.iter())
    loop.add_reader(lifeline, work.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await work
    finally:
        loop.remove_reader(lifeline)


async def _readable(descriptor: int) -> None:
    """Wait until there is something to read, if only the end."""
    loop = asyncio.get_running_loop()
    readable = loop.create_future()
    loop.add_reader(descriptor, lambda: readable.cancel())
    try:
        await asyncio.wait({readable})
    finally:
        loop.remove_reader(descriptor)


def _obstacle_to_forking() -> str | None:
    if not hasattr(os, "fork"):
        return "this system cannot fork"
    if threading.current_thread() is not threading.main_thread() or asyncio._get_running_loop() is not None:
        return "an event loop is running here, as in a notebook"
    if is_in_use():
        return "this process has talked to a store already, after which it cannot fork safely"
    return None
