"""Runners that others start: nothing to run here, only to say how, when nobody does. Starts nothing."""

import asyncio
import logging
import sys
from functools import partial
from pathlib import Path
from typing import Final

from agentlightning.store import LightningStoreClient
from agentlightning.trainer.runners.work import Work, until_one_is_taken

_log = logging.getLogger(__name__)

_PATIENCE: Final = 5.0


class RemoteRunners:
    """Runners that others start: `agl runner`, or a program in another language."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def start(self) -> None:
        """They are started elsewhere."""

    def stop(self) -> None:
        """They stay, for the next trainer."""

    async def watch(self, store: LightningStoreClient) -> str:
        """Say how to start one when nobody takes the first rollout; then go on waiting, for ever."""
        await until_one_is_taken(store, _PATIENCE, partial(self._say_how, store))
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nobody ends this wait")

    def _say_how(self, store: LightningStoreClient) -> None:
        address, queue, agent = store.server_address, self._work.store.queue, self._work.agent
        how = f"agl runner {_import_reference(agent) or 'MODULE:AGENT'} --store {address} --queue {queue}"
        if agent is None:
            how = f"AGL_STORE={address} AGL_QUEUE={queue} COMMAND (a runner in any language; in Python: {how})"
        _log.warning("No runner takes the rollouts that are queued. Start one, here or elsewhere: %s", how)


def _import_reference(agent: object) -> str | None:
    """Where an agent is to be imported from, `module:name`. None: it is in no module under its name."""
    module, name = getattr(agent, "__module__", ""), getattr(agent, "__qualname__", "")
    found = getattr(sys.modules.get(module), name, None)
    if found is None or not name.isidentifier():
        return None
    if module == "__main__":
        module = Path(getattr(sys.modules[module], "__file__", None) or "").stem
    return f"{module}:{name}" if module else None
