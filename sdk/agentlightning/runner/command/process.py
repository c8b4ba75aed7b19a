"""One process from its start to the end of all that it has started. Knows neither tasks nor rewards."""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from agentlightning.runner.command.guard import Guard, own_guard
from agentlightning.runner.command.output import Output
from agentlightning.runner.command.tree import end_tree
from agentlightning.runner.execution import in_thread

_log = logging.getLogger(__name__)

_STDOUT, _STDERR = 1, 2
_DRAIN_SECONDS: Final = 1.0
"""How long to read on when all processes that could be found have ended, and another holds a pipe open."""


class CommandProcess:
    """A process of an attempt.

    Args:
        command: The program and its arguments.
        environment: All its variables; they name the attempt.
        attempt_id: The attempt.
        folder: What is removed if nobody is left to do so.
        tell: Given each line that it prints. None: nobody listens.

    Attributes:
        pid: Its id, None before it is started.
        code: Its exit code, negative for the number of a signal; None when it was not started, or did not end itself.
        stdout: What it printed.
        stderr: What it said of itself.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        attempt_id: str,
        folder: Path,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.pid: int | None = None
        self.code: int | None = None
        self.stdout, self.stderr = Output(tell), Output(tell)
        self._command = command
        self._environment = environment
        self._attempt_id = attempt_id
        self._folder = folder

    async def run(self, stdin: Path) -> None:
        """Run it to its end, and end what it leaves behind. Cancelled, it ends all of it first.

        Args:
            stdin: The file that it reads as its standard input.

        Raises:
            OSError: It cannot be started.
        """
        guard, loop = own_guard(), asyncio.get_running_loop()
        with contextlib.ExitStack() as closing:
            ended = _Ended(self.stdout, self.stderr)
            try:
                guard.tell(self._attempt_id, self._folder)
                with stdin.open("rb") as task:
                    # A session of its own: Ctrl-C is for the runner, and who belongs to it can be told.
                    transport, _ = await loop.subprocess_exec(
                        lambda: ended, *self._command, stdin=task, env=self._environment, start_new_session=True
                    )
                closing.callback(transport.close)
                self.pid = transport.get_pid()
                guard.tell(self._attempt_id, self._folder, self.pid)
                await asyncio.wait({ended.itself})
                self.code = transport.get_returncode()
            finally:
                await self._end_rest(guard, ended)

    async def _end_rest(self, guard: Guard, ended: "_Ended") -> None:
        left = await in_thread(functools.partial(self._end_all, guard))
        if left:
            _log.warning("[%s] Processes do not end: %s.", self._attempt_id, ", ".join(map(str, left)))
        if self.pid is not None:
            await asyncio.wait({ended.itself, ended.outputs}, timeout=_DRAIN_SECONDS)
            self.stdout.end()
            self.stderr.end()

    def _end_all(self, guard: Guard) -> list[int]:
        # Where nobody waits for this any more, the runner may end before it has: then it is the guard's to do.
        left = end_tree(self._attempt_id, self.pid)
        guard.forget(self._attempt_id)
        return left


class _Ended(asyncio.SubprocessProtocol):
    """Hears what a process prints, and learns when it has ended, and when all have that could still print.

    (`Process.wait` of asyncio waits for both in some versions.)
    """

    def __init__(self, stdout: Output, stderr: Output) -> None:
        loop = asyncio.get_running_loop()
        self.itself: asyncio.Future[None] = loop.create_future()
        self.outputs: asyncio.Future[None] = loop.create_future()
        self._open = {_STDOUT: stdout, _STDERR: stderr}

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._open[fd].add(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open.pop(fd, None)
        if not self._open and not self.outputs.done():
            self.outputs.set_result(None)

    def process_exited(self) -> None:
        if not self.itself.done():
            self.itself.set_result(None)
