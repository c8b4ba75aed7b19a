"""Where a trainer's runners run: in processes of their own, threads of this one, or elsewhere. Knows no algorithm."""

import asyncio
import contextlib
import json
import logging
import os
import threading
from collections.abc import AsyncIterator
from typing import Any, Literal, Protocol, runtime_checkable

from agentlightning.errors import AttemptLostError
from agentlightning.runner import Hook
from agentlightning.store import LightningStoreClient
from agentlightning.store.connection import is_in_use
from agentlightning.trainer.runners.processes import RunnerProcesses
from agentlightning.trainer.runners.remote import RemoteRunners
from agentlightning.trainer.runners.supervisor import Life, summary
from agentlightning.trainer.runners.threads import ThreadRunners
from agentlightning.trainer.runners.work import Runners, Work, until_closed, until_more_is_queued
from agentlightning.types import AttemptedRollout, Failure

_log = logging.getLogger(__name__)

Strategy = Literal["processes", "threads", "remote"]


@runtime_checkable
class ExecutionStrategy(Protocol):
    """Where runners run: what `Trainer(strategy=...)` takes beside the names of those that are there.

    A strategy makes `Runners`, which have `start`, `stop` and `watch`; see `agentlightning.trainer.runners.work`. One
    whose runners have agents of their own says `needs_agent = False`, and `fit` asks for none.

    Example:
        >>> import agentlightning as agl
        >>> from agentlightning.trainer.runners.threads import ThreadRunners
        >>> class InThreads:
        ...     def runners(self, work, count):
        ...         return ThreadRunners(work, count)
        >>> isinstance(InThreads(), agl.ExecutionStrategy)
        True
    """

    def runners(self, work: Work, count: int) -> Runners:
        """So many runners for this work, not started."""


def runners_for(work: Work, count: int, strategy: "Strategy | ExecutionStrategy | None") -> Runners:
    """Processes where they are possible, else threads, and said in one line why; none where they are remote."""
    if strategy == "remote" or count == 0:
        return RemoteRunners(work)
    if strategy is not None and not isinstance(strategy, str):
        return strategy.runners(work, count)
    if strategy == "threads":
        return ThreadRunners(work, count)
    if (obstacle := obstacle_to_forking()) is None:
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

    async def watch(self, store: LightningStoreClient) -> str:
        """Hear what the supervisor says, until it gives up or is gone."""
        async with _lines(os.dup(self._processes.news)) as news:
            async for line in news:
                match json.loads(line):
                    case {"died": number, "life": life, "how": how, "words": words}:
                        failure = Failure(
                            kind="infrastructure",
                            type="RunnerDied",
                            message=f"runner {number} {summary(how, words)}",
                            stack_trace=words,
                        )
                        await _give_back(self._work.store, f"Worker-{number}-{self._work.scope_of(life)}", failure)
                    case {"given_up": reason}:
                        return str(reason)
                    case {"finished": True}:
                        return await until_more_is_queued(store, self._work)
        return "their supervisor was killed"

    def _run(self, life: Life) -> None:
        with self._work.runner(life.number, life.count, hooks=[_NotingWork(life)]) as runner:
            asyncio.run(until_closed(life.lifeline, runner))


class _NotingWork(Hook):
    """Tells the supervisor that its runner does not die in vain."""

    def __init__(self, life: Life) -> None:
        self._life = life

    async def on_rollout_start(self, **_: Any) -> None:
        self._life.note_begun()

    async def on_rollout_end(self, **_: Any) -> None:
        self._life.note_worked()


async def _give_back(store: LightningStoreClient, worker_id: str, failure: Failure) -> None:
    """Report for a runner that died what it cannot report itself: its rollouts are delivered again at once."""
    for rollout in await store.query_rollouts(status_in=["preparing", "running"]):
        attempt = rollout.attempt if isinstance(rollout, AttemptedRollout) else None
        if attempt is not None and attempt.worker_id == worker_id:
            with contextlib.suppress(AttemptLostError):
                await store.complete_attempt(attempt.rollout_id, attempt.attempt_id, failure=failure)


@contextlib.asynccontextmanager
async def _lines(pipe: int) -> AsyncIterator[asyncio.StreamReader]:
    """What comes through a pipe, which is closed afterwards."""
    with os.fdopen(pipe, "rb", buffering=0) as file:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), file
        )
        try:
            yield reader
        finally:
            transport.close()


def obstacle_to_forking() -> str | None:
    """Why no runner process can be forked from here. None: nothing is in the way."""
    if not hasattr(os, "fork"):
        return "this system cannot fork"
    if threading.current_thread() is not threading.main_thread() or asyncio._get_running_loop() is not None:
        return "an event loop is running here, as in a notebook"
    if is_in_use():
        return "this process has talked to a store already, after which it cannot fork safely"
    return None
