"""Runners for a store elsewhere, and nothing else: the other side of an `AgentLightningServer`. Knows no algorithm."""

import asyncio
import logging
import math

from agentlightning import logs
from agentlightning.errors import AgentError, StoreUnavailableError
from agentlightning.store import LightningStoreClient
from agentlightning.store.presence import until_gone
from agentlightning.trainer.fit.interruption import Interruption
from agentlightning.trainer.runners.execution import ExecutionStrategy, Strategy, runners_for
from agentlightning.trainer.runners.work import Runners, Work

_log = logging.getLogger(__name__)

GONE_SECONDS = 60.0
"""How long a store may be out of reach before its runners give it up: while it has yet to start, and later."""


def client_for_runners(address: str) -> LightningStoreClient:
    """What runners reach the store with; they try for ever, as `work_for` says for all of them when that ends."""
    return LightningStoreClient(address, retry_seconds=math.inf)


def work_for(work: Work, n_runners: int, strategy: "Strategy | ExecutionStrategy | None") -> None:
    """Run the rollouts of a store until interrupted, or until the store is gone for good.

    Raises:
        StoreUnavailableError: The store never answered.
        AgentError: The runners cannot go on.
    """
    address = work.store.server_address
    runners = runners_for(work, n_runners, strategy)
    with logs.shown(), Interruption() as interruption:
        _log.info("Initializing Trainer...")
        try:
            runners.start()
            print(f"{n_runners} runner(s) at work for the store at {address}, until Ctrl-C", flush=True)
            interruption.run(lambda: _until_gone(LightningStoreClient(address, retry_seconds=GONE_SECONDS), runners))
        finally:
            runners.stop()


async def _until_gone(store: LightningStoreClient, runners: Runners) -> None:
    await store.statistics()
    present = asyncio.create_task(until_gone(store))
    watching = asyncio.create_task(runners.watch(store))
    try:
        await asyncio.wait({present, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not present.done():
            raise AgentError(f"the runners cannot go on: {watching.result()}")
        await present
    except StoreUnavailableError:
        print(f"the store at {store.server_address} is gone for {GONE_SECONDS:g} s, so its runners end", flush=True)
    finally:
        for task in (present, watching):
            task.cancel()
        await asyncio.gather(present, watching, return_exceptions=True)
