"""The agent that is a command: a process for each rollout. Knows what it is given and what its end means."""

import contextlib
import functools
import logging
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from typing import Any, Final

from opentelemetry import trace

from agentlightning.emitter.recording import current_tracer
from agentlightning.errors import AgentError
from agentlightning.litagent import LitAgent
from agentlightning.runner.command.environment import Given, given
from agentlightning.runner.command.outcome import failed, failure_of_exit, is_number, reward_in
from agentlightning.runner.command.process import CommandProcess
from agentlightning.semconv import PROCESS_STDERR, PROCESS_STDOUT
from agentlightning.store.base import LightningStore
from agentlightning.types import AttemptedRollout, NamedResources, Rollout

_log = logging.getLogger(__name__)
_LONGEST_NAME: Final = 80


class CommandAgent(LitAgent[Any]):
    """An agent that is a command, in any language: one process for each rollout.

    A program that takes rollouts itself, as a runner in another language does, is none: that is `RunnerCommand`.

    It reads its task, as JSON, from standard input, and prints its reward as its last line, or calls `agl emit reward`.
    docs/any-command.md says what it finds in its environment and what its exit code means. Its output is kept on the
    attempt; at DEBUG its lines are logged as they come.

    Args:
        command: The program and its arguments, as a list or as a line that is split at spaces as a shell would. No
            shell runs it unless it is one: `sh -c "..."`.

    Raises:
        AgentError: There is no such program.

    Example:
        >>> import asyncio
        >>> import agentlightning as agl
        >>> runner = agl.LitAgentRunner()
        >>> with runner.run_context(agent=agl.CommandAgent("echo 0.5"), store=store):
        ...     rollout = asyncio.run(runner.step({"seats": 4}))
        >>> asyncio.run(store.get_latest_attempt(rollout.rollout_id)).final_reward
        0.5
    """

    def __init__(self, command: str | Sequence[str]) -> None:
        super().__init__()
        self.command = _checked(command)

    async def rollout_async(self, task: Any, resources: NamedResources, rollout: Rollout) -> float | None:
        """Run the command for one task.

        Raises:
            AttemptFailed: It did not end well, or its last line is a number that is not finite.
        """
        assert isinstance(rollout, AttemptedRollout)
        store: LightningStore = self.get_runner().get_store()
        try:
            with _span(self.command) as span, given(rollout, resources, store) as its:
                process = self._process(rollout, its)
                try:
                    await process.run(its.task)
                finally:
                    span.set_attributes(_facts(process))
        except OSError as error:
            raise _not_started(self.command, error) from error
        return await self._reward(process, rollout, store)

    def _process(self, rollout: AttemptedRollout, its: Given) -> CommandProcess:
        tell = functools.partial(_log.debug, "[%s] %s", rollout.rollout_id)
        return CommandProcess(
            self.command,
            its.environment,
            attempt_id=rollout.attempt.attempt_id,
            folder=its.folder,
            tell=tell if _log.isEnabledFor(logging.DEBUG) else None,
        )

    async def _reward(self, process: CommandProcess, rollout: AttemptedRollout, store: LightningStore) -> float | None:
        """What its last line says, unless it has sent a reward itself."""
        assert process.code is not None
        stderr = process.stderr
        if failure := failure_of_exit(process.code, stderr.last_line, stderr.text):
            raise failure
        line = process.stdout.last_line
        if not is_number(line):
            return None
        attempt = await store.get_latest_attempt(rollout.rollout_id)
        return reward_in(line) if attempt is None or attempt.final_reward is None else None


def _checked(command: str | Sequence[str]) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(command) if isinstance(command, str) else command)
    except ValueError as error:
        raise AgentError(f"command is {command!r}, which cannot be split into words: {error}") from None
    if not words:
        raise AgentError("command is empty, expected a program and its arguments")
    if shutil.which(words[0]) is None:
        if os.path.isfile(words[0]):
            raise AgentError(f"command is {words[0]!r}, which is not executable: chmod +x {words[0]}")
        place = f"in {os.getcwd()}" if os.sep in words[0] else "on the search path"
        hint = "" if os.sep in words[0] else f"; a file of this folder is ./{words[0]}"
        raise AgentError(f"command is {words[0]!r}, and there is no such program {place}{hint}")
    return words


@contextlib.contextmanager
def _span(command: Sequence[str]) -> Iterator[trace.Span]:
    """The span of the process, as OpenTelemetry names what it has; in it, what the process sends has its place."""
    tracer = current_tracer() or trace.NoOpTracer()
    name = os.path.basename(command[0])[:_LONGEST_NAME]
    attributes = {"process.command_args": command, "process.executable.name": name}
    with tracer.start_as_current_span(name, attributes=attributes) as span:
        yield span


def _facts(process: CommandProcess) -> dict[str, str | int]:
    facts = {
        "process.pid": process.pid,
        "process.exit.code": process.code,
        PROCESS_STDOUT: process.stdout.text,
        PROCESS_STDERR: process.stderr.text,
    }
    return {name: value for name, value in facts.items() if value not in (None, "")}


def _not_started(command: Sequence[str], error: OSError) -> Exception:
    hint = "; begin it with #! and the program that runs it" if error.strerror == "Exec format error" else ""
    message = f"{error.filename or command[0]}: {error.strerror or error}{hint}"
    return failed("infrastructure", "CommandNotStarted", message)
