"""Several processes that do the same, each started again when it dies. Knows their command, and nothing of their work.

They are told by their lifelines what to do, so they end with this process however that ends.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from agentlightning.cli.runners.orders import DRAIN, Orders

_log = logging.getLogger(__name__)

STOP_SECONDS: Final = 10.0
"""How long a process that is told to stop has for giving back what it holds."""
_DEATHS_ALLOWED: Final = 5
_DEATHS_WITHIN: Final = 60.0
_SAID_WHY: Final = (1, 2)
"""Exit codes of a process that ended by its own decision: it would decide so again."""


class Processes:
    """`count` processes of one command.

    Args:
        command: What each of them runs; its standard input is its lifeline.
        count: How many.
        orders: What they are told to do.
        first_pause: Seconds before one that died is started again; each time within a minute it is twice as long.
    """

    def __init__(self, command: Sequence[str], count: int, orders: Orders, *, first_pause: float = 0.4) -> None:
        self._command = command
        self._count = count
        self._orders = orders
        self._first_pause = first_pause

    async def run(self) -> int:
        """Run them until all have ended.

        Returns:
            0 when each of them ended well, else the exit code for this process.
        """
        async with asyncio.TaskGroup() as keeping:
            for number in range(self._count):
                keeping.create_task(self._keep(number))
        return self._orders.stopped.result() if self._orders.stopped.done() else 0

    async def _keep(self, number: int) -> None:
        """Run one, and again when it dies, until it ends well or all are to end."""
        deaths: deque[float] = deque()
        while not self._orders.drain.is_set():
            code = await self._run_one()
            if self._orders.drain.is_set() or code == 0:
                return
            if code in _SAID_WHY:
                self._orders.stop(code)
                return
            await self._mourn(number, code, deaths)

    async def _run_one(self) -> int:
        """Run one to its end, and pass on what it is to do."""
        # A session of its own: Ctrl-C is for this process, which passes on what follows from it.
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, start_new_session=True
        )
        assert process.stdin is not None
        telling = asyncio.create_task(self._tell(process, process.stdin))
        try:
            return await process.wait()
        finally:
            telling.cancel()
            await asyncio.wait([telling])
            process.stdin.close()

    async def _tell(self, process: asyncio.subprocess.Process, lifeline: asyncio.StreamWriter) -> None:
        await self._orders.drain.wait()
        with contextlib.suppress(ConnectionError):  # it has just ended
            lifeline.write(DRAIN)
            await lifeline.drain()
        await asyncio.wait([self._orders.stopped])
        lifeline.close()
        await asyncio.sleep(STOP_SECONDS)
        _log.warning("Process %d does not end: killed.", process.pid)
        process.kill()

    async def _mourn(self, number: int, code: int, deaths: deque[float]) -> None:
        """Pause, longer each time, before a process that died is started again; give up if it dies too often."""
        now = time.monotonic()
        while deaths and deaths[0] < now - _DEATHS_WITHIN:
            deaths.popleft()
        pause = self._first_pause * 2 ** len(deaths)
        deaths.append(now)
        name = f"Process {number + 1} of {self._count}"
        if len(deaths) > _DEATHS_ALLOWED:
            _log.error("%s keeps dying, now with code %d: given up. What it said is above.", name, code)
            self._orders.stop(1)
            return
        _log.warning("%s died with code %d, started again in %.1f s.", name, code, pause)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._orders.drain.wait()
