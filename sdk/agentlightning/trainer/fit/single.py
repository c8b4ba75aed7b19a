"""One rollout of an agent in this process, for its author to look at. Knows no runner processes and no algorithm."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentlightning.litagent import LitAgent
from agentlightning.runner import Hook, LitAgentRunner
from agentlightning.server import LitRollout
from agentlightning.server.result import read_result
from agentlightning.store import LightningStoreClient
from agentlightning.trainer.fit.interruption import Interruption
from agentlightning.trainer.fit.serving import serving


async def run_one(
    agent: LitAgent[Any],
    task: Any,
    resources: Mapping[str, Any] | None,
    *,
    store: LightningStoreClient | str | Path | None,
    folder: Path,
    hooks: Sequence[Hook],
) -> LitRollout:
    """Run one task, and read what came of it.

    Raises:
        Exception: What the agent raised.
    """
    runner: LitAgentRunner[Any] = LitAgentRunner()
    with contextlib.ExitStack() as held:
        address, _ = await asyncio.to_thread(held.enter_context, serving(store, folder, None, Interruption()))
        client = LightningStoreClient(address)
        try:
            with runner.run_context(agent=agent, store=client, hooks=hooks):
                rollout = await runner.step(task, resources=resources, mode="train")
            return await read_result(client, rollout)
        finally:
            await client.close()
