"""Where a trainer's runners run: in processes of their own, or in threads of this one. Knows no algorithm."""

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from agentlightning.litagent import LitAgent
from agentlightning.runner import Hook, LitAgentRunner
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


@runtime_checkable
class ExecutionStrategy(Protocol):
    """Where runners run: what `Trainer(strategy=...)` takes beside the names of those that are there."""

    def runners(self, work: "Work", count: int) -> Runners:
        """So many runners for this work, not started."""


@dataclass(frozen=True)
class Work:
    """What runners do: rollouts of a store with an agent, and hooks around them."""

    agent: LitAgent[Any]
    store: LightningStoreClient
    max_rollouts: int | None
    hooks: Sequence[Hook]
    make_runner: Callable[[], LitAgentRunner[Any]] = LitAgentRunner

    @contextlib.contextmanager
    def runner(self, number: int, max_concurrency: int = 1) -> Iterator[LitAgentRunner[Any]]:
        """A runner that is ready for it."""
        runner = self.make_runner()
        runner.max_rollouts = self.max_rollouts
        runner.max_concurrency = max(runner.max_concurrency, max_concurrency)
        with runner.run_context(agent=self.agent, store=self.store, hooks=self.hooks, worker_id=number):
            yield runner


def runners_for(work: Work, count: int, strategy: Strategy | ExecutionStrategy | None) -> Runners:
    """Processes where they are possible, else threads, and said in one line why."""
    if strategy is not None and not isinstance(strategy, str):
        return strategy.runners(work, count)
    if strategy == "threads":
        return ThreadRunners(work, count)
    if (obstacle := _obstacle_to_forking()) is None:
        return ProcessRunners(work, count)
    _log.warning("The %d runners share this process: %s.", count, obstacle)
    return ThreadRunners(work, count)


class ProcessRunners:
    """One process a runner."""

    def __init__(self, work: Work, count: int) -> None:
        self._work = work
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
        with self._work.runner(number) as runner:
            asyncio.run(_until_closed(lifeline, runner))


class ThreadRunners:
    """One runner in a thread of this process, which does several rollouts at once."""

    def __init__(self, work: Work, count: int) -> None:
        self._work = work
        self._count = count
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
            with self._work.runner(0, max_concurrency=self._count) as runner:
                asyncio.run(_until_closed(self._lifeline, runner))
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
