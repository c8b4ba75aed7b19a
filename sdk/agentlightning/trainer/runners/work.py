"""What runners do, and what they can all be told, wherever they run. Knows no process, thread or algorithm."""

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from agentlightning.litagent import LitAgent
from agentlightning.runner import Hook, LitAgentRunner
from agentlightning.store import LightningStoreClient
from agentlightning.types import AttemptedRollout, Rollout

ASYNC_CONCURRENCY: Final = 4
"""How many rollouts a runner does at once when the agent is async and nobody says otherwise."""


class Runners(Protocol):
    """Runners that are at work between `start` and `stop`."""

    def start(self) -> None:
        """Begin to take rollouts."""

    def stop(self) -> None:
        """Take no more, and end within a few seconds. Also where `start` was not called, or did not succeed."""

    async def watch(self, store: LightningStoreClient) -> str:
        """Look after them while a run is at work in the store; return when they cannot go on, with the reason."""


@dataclass(frozen=True)
class Work:
    """What runners do: rollouts of a store with an agent, and hooks around them.

    Attributes:
        agent: The agent. None: the runners have their own, as those in another language do.
        store: Where the rollouts come from: its queue.
        max_rollouts: How many each runner takes. None: any number.
        max_concurrency: How many each does at once. None: one, or a few of an agent that is async.
        hooks: What is done around each.
        make_runner: Makes one that does the work.
        scope: What tells these workers from all others of the store.
    """

    agent: LitAgent[Any] | None
    store: LightningStoreClient
    max_rollouts: int | None = None
    max_concurrency: int | None = None
    hooks: Sequence[Hook] = ()
    make_runner: Callable[[], LitAgentRunner[Any]] = LitAgentRunner
    scope: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    @contextlib.contextmanager
    def runner(
        self, number: int, life: int = 0, *, times: int = 1, hooks: Sequence[Hook] = ()
    ) -> Iterator[LitAgentRunner[Any]]:
        """A runner that is ready for it, and does the work of so many."""
        assert self.agent is not None, "a strategy whose runners are given no agent says needs_agent = False"
        runner = self.make_runner()
        at_once = self.max_concurrency or max(runner.max_concurrency, ASYNC_CONCURRENCY if self.agent.is_async else 1)
        runner.max_rollouts = None if self.max_rollouts is None else times * self.max_rollouts
        runner.max_concurrency = times * at_once
        with runner.run_context(
            agent=self.agent,
            store=self.store,
            hooks=[*self.hooks, *hooks],
            worker_id=number,
            worker_scope=self.scope_of(life),
        ):
            yield runner

    def scope_of(self, life: int) -> str:
        """A runner that was started again is another worker: what is said of the dead does not concern it."""
        return f"{self.scope}.{life}" if life else self.scope


async def until_one_is_taken(store: LightningStoreClient, patience: float, say: Callable[[], None]) -> None:
    """Wait until a rollout of the run is taken; say so if none is, so many seconds after the first was queued."""
    hint: asyncio.TimerHandle | None = None
    try:
        async with contextlib.aclosing(store.watch()) as changes:
            async for change in changes:
                if isinstance(change.object, AttemptedRollout):
                    break
                if hint is None and isinstance(change.object, Rollout):
                    hint = asyncio.get_running_loop().call_later(patience, say)
    finally:
        if hint is not None:
            hint.cancel()


async def until_more_is_queued(store: LightningStoreClient, work: Work) -> str:
    """Wait, once all runners have done their share, until a rollout of the run wants another."""
    async with contextlib.aclosing(store.watch()) as changes:
        async for change in changes:
            if isinstance(change.object, Rollout) and change.object.status in ("queuing", "requeuing"):
                break
    if work.max_rollouts is None:
        return "each has ended by itself, and there is more to do"
    return f"each has taken its max_rollouts={work.max_rollouts}, and there is more to do; take more, or None for any"


async def until_closed(lifeline: int, runner: LitAgentRunner[Any]) -> None:
    """Run rollouts until the other end of the lifeline is closed."""
    loop = asyncio.get_running_loop()
    work = asyncio.create_task(runner.iter())
    loop.add_reader(lifeline, work.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await work
    finally:
        loop.remove_reader(lifeline)
