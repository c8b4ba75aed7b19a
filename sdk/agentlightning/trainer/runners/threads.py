"""Runners in a thread of this process: for debuggers, notebooks, and where nothing can be forked."""

import asyncio
import logging
import os
import threading
from typing import Final

from agentlightning.store import LightningStoreClient
from agentlightning.trainer.runners.work import Work, until_closed, until_more_is_queued

_log = logging.getLogger(__name__)

_JOIN_SECONDS: Final = 2.0


class ThreadRunners:
    """One runner in a thread of this process, which does as many rollouts at once as all of them."""

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
        """End the thread; what an agent blocks is left behind."""
        os.close(self._end_of_line)
        if self._thread.ident is None:
            os.close(self._end)
        else:
            self._thread.join(_JOIN_SECONDS)
        if self._thread.is_alive():
            _log.warning("A thread is left behind: the agent blocks it, and it cannot be interrupted.")
            return
        os.close(self._lifeline)
        os.close(self._ended)

    async def watch(self, store: LightningStoreClient) -> str:
        """Wait until the thread has ended."""
        await _readable(self._ended)
        if self._failure is not None:
            return f"their thread ended with {type(self._failure).__name__}: {self._failure}"
        return await until_more_is_queued(store, self._work)

    def _run(self) -> None:
        try:
            with self._work.runner(0, times=self._count) as runner:
                asyncio.run(until_closed(self._lifeline, runner))
        except BaseException as error:
            self._failure = error
        finally:
            os.close(self._end)


async def _readable(descriptor: int) -> None:
    """Wait until there is something to read, if only the end."""
    loop = asyncio.get_running_loop()
    readable = loop.create_future()
    loop.add_reader(descriptor, lambda: readable.cancel())
    try:
        await asyncio.wait({readable})
    finally:
        loop.remove_reader(descriptor)
