"""Runners that are a command, in whatever language, looked after as a trainer's own. Knows no agent and no rollout."""

import asyncio
import contextlib
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from agentlightning.errors import TrainerError
from agentlightning.store import LightningStoreClient
from agentlightning.trainer.runners.execution import ProcessRunners, obstacle_to_forking
from agentlightning.trainer.runners.supervisor import STOP_SECONDS, Life, how_ended, ready_of
from agentlightning.trainer.runners.work import Runners, Work, until_one_is_taken

_log = logging.getLogger(__name__)

_LAST_LINES: Final = 100
_TELLING: Final = re.compile(r"(error|exception|fatal|panic)\b", re.IGNORECASE)
_LAST_LINES_SECONDS: Final = 0.2
"""How long the last lines of a command that ended may take to come; what it has started may keep the pipe open."""
_PATIENCE: Final = 30.0
"""How long none may take a rollout before that is said; some are built, or load a model, before they begin."""


class RunnerCommand:
    """A strategy: the runners are processes of a command, which is told all it needs by its environment.

    The command speaks the protocol, and takes one rollout after the other. A program that is started for each rollout,
    and needs no protocol, is an agent: `CommandAgent`.

    `AGL_STORE` and `AGL_QUEUE` say where the rollouts are, and `AGL_CONCURRENCY` and `AGL_MAX_ROLLOUTS` what the
    trainer's `max_concurrency` and `max_rollouts` are, where it has them. SIGTERM ends a process; one that dies is
    started again, as any runner is. `fit` needs no agent.

    Args:
        command: The program and its arguments; a text is split as a shell does.
        env: What else is in its environment, beside that of this process.

    Raises:
        TrainerError: There is no such program.

    Example:
        >>> import agentlightning as agl
        >>> agl.RunnerCommand("sh rooms.sh --fast").command
        ['sh', 'rooms.sh', '--fast']
        >>> agl.RunnerCommand(["./rooms"])
        Traceback (most recent call last):
        agentlightning.errors.TrainerError: command is ['./rooms'], and there is no program './rooms': build it, or ...
    """

    needs_agent: Final = False

    def __init__(self, command: Sequence[str] | str, env: Mapping[str, str] | None = None) -> None:
        self.command = shlex.split(command) if isinstance(command, str) else list(command)
        self.env = dict(env or {})
        program = next(iter(self.command), "")
        if shutil.which(program) is None:
            raise TrainerError(
                f"command is {self.command!r}, and there is no program {program!r}: build it, or give its path"
            )

    def runners(self, work: Work, count: int) -> Runners:
        """So many processes of it for this work.

        Raises:
            TrainerError: No process can be started from here.
        """
        if (obstacle := obstacle_to_forking()) is not None:
            raise TrainerError(
                f"the command {shlex.join(self.command)} cannot be started from here, as {obstacle}: start it "
                "elsewhere, and train with n_runners=0"
            )
        return _CommandRunners(work, count, self)


class _CommandRunners(ProcessRunners):
    """Each runner process starts the command, ends it with the trainer, and dies as it does."""

    def __init__(self, work: Work, count: int, strategy: RunnerCommand) -> None:
        super().__init__(work, count)
        self._command = strategy.command
        self._env = _environment(work) | strategy.env

    async def watch(self, store: LightningStoreClient) -> str:
        """Look after them, and say so where they take nothing."""
        taking = asyncio.create_task(until_one_is_taken(store, _PATIENCE, self._say_that_none_is_taken))
        try:
            reason = await super().watch(store)
            if not taking.done():
                self._say_that_none_is_taken()
            return reason
        finally:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)

    def _say_that_none_is_taken(self) -> None:
        command = shlex.join(self._command)
        agent = f"fit(agl.CommandAgent({command!r}), ...)"
        _log.warning("No runner, %s, has taken a rollout. If it is an agent, for one rollout: %s", command, agent)

    def _run(self, life: Life) -> None:
        process = subprocess.Popen(
            self._command,
            env=os.environ | self._env,
            stdin=subprocess.DEVNULL,  # a terminal would stop it, as it is none of its foreground
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        assert process.stderr is not None
        last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        hearing = threading.Thread(target=_pass_on, args=(process.stderr, last_lines), daemon=True)
        hearing.start()
        threading.Thread(target=_end_with_trainer, args=(life.lifeline, process), daemon=True).start()
        if code := process.wait():
            hearing.join(_LAST_LINES_SECONDS)
            life.say(": ".join([*([how_ended(code)] if code < 0 else []), *_what_tells(list(last_lines))]))
            os._exit(code if code > 0 else 128 - code)  # as a shell puts it


def _environment(work: Work) -> dict[str, str]:
    told = {
        "AGL_STORE": work.store.server_address,
        "AGL_QUEUE": work.store.queue,
        "AGL_CONCURRENCY": work.max_concurrency,
        "AGL_MAX_ROLLOUTS": work.max_rollouts,
    }
    return {name: str(value) for name, value in told.items() if value is not None}


def _pass_on(lines: Iterable[str], last_lines: deque[str]) -> None:
    """Print what the command says, and keep the end of it."""
    for line in lines:
        print(line, end="", file=sys.stderr)
        if line.strip():
            last_lines.append(line.strip())


def _what_tells(last_lines: Sequence[str]) -> Sequence[str]:
    """The last line that speaks of an error, as there may be a stack below it; else the last; none where none is."""
    return ([line for line in last_lines if _TELLING.search(line)] or last_lines)[-1:]


def _end_with_trainer(lifeline: int, process: subprocess.Popen[str]) -> None:
    """Have the command finish once the trainer ends, then give up what it does; who does not listen is killed."""
    ready_of(lifeline)
    for end in (process.terminate, process.terminate, process.kill):
        end()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS / 2)
