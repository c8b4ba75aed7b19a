"""`agl runner`: an agent at work on the rollouts of a store, on any machine. Knows no algorithm."""

import argparse
import asyncio
import json
import logging
import math
import os
import secrets
import socket
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

from agentlightning import logs
from agentlightning.cli.errors import NotUnderstoodError
from agentlightning.cli.runners.orders import Orders, ending_at_signals
from agentlightning.cli.runners.processes import Processes
from agentlightning.errors import AgentError
from agentlightning.store import LightningStoreClient
from agentlightning.types import LightningStoreStatistics

_log = logging.getLogger(__name__)
_DEFAULT_QUEUE = "default"
_DESCRIPTION = """\
Take rollouts from a queue of a store, run an agent on them under a tracer, report what it did.

The first Ctrl-C or SIGTERM finishes what runs and takes no more, the second gives it back to be run again elsewhere.
A store that is not there yet, or goes away, is waited for. The agent is one of Python, MODULE:AGENT, or any --command.

exit status: 0 drained, or did its --max-rollouts; 1 could not; 2 not understood; 130 or 143 by a second signal
"""


def add_command(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to those of a parser."""
    parser = commands.add_parser(
        "runner",
        parents=[common],
        help="run an agent for the rollouts of a store, here or on any machine",
        description=_DESCRIPTION,
        epilog="example: agl runner rooms/agent.py:select --store 10.0.0.5:4747 --queue rooms --concurrency 8",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "agent", nargs="?", type=_reference, metavar="MODULE:AGENT", help="the agent, or path/file.py:agent"
    )
    parser.add_argument(
        "--command",
        type=_runnable,
        metavar="COMMAND",
        help="the agent, in any language: a process for each rollout (docs/any-command.md)",
    )
    parser.add_argument("--show-output", action="store_true", help="log what a command prints as it comes")
    parser.add_argument("--queue", help=f"where the rollouts come from (default: {_DEFAULT_QUEUE})")
    parser.add_argument(
        "--concurrency",
        type=_at_least_one,
        default=1,
        metavar="N",
        help="rollouts at once in each process; agents that are not async run in threads (default: 1)",
    )
    parser.add_argument(
        "--processes",
        type=_at_least_one,
        default=1,
        metavar="N",
        help="processes, each started again when it dies (default: 1)",
    )
    parser.add_argument("--max-rollouts", type=_at_least_one, metavar="N", help="end each process after N rollouts")
    parser.add_argument(
        "--drain-seconds",
        type=_seconds,
        metavar="S",
        help="after a first signal, give back what still runs after S seconds (default: wait for it)",
    )
    parser.add_argument(
        "--instrumentor",
        action="append",
        metavar="NAME",
        help="an OpenTelemetry instrumentor to enable; may be given again (default: those of what the agent imports)",
    )
    parser.add_argument("--lifeline", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(coroutine=run_runner, shown_from=logging.INFO)


async def run_runner(client: LightningStoreClient, arguments: argparse.Namespace) -> int:
    """Run an agent until told to end, in this process or in several.

    Returns:
        0 when it drained or did its share, 1 when it could not go on or drained too long, 128 and the number of a
        second signal.
    """
    _choose_agent(arguments)
    orders = Orders()
    if arguments.processes > 1:
        processes = Processes(_command_of_one(client, arguments), arguments.processes, orders)
        with orders.from_signals(arguments.drain_seconds):
            return await processes.run()
    logs.print_whole_lines()
    lifeline = _take_stdin() if arguments.lifeline else None
    with ending_at_signals():
        work = _Work(client, arguments)
    if lifeline is not None:
        with orders.from_lifeline(lifeline):
            return await _obeying(orders, work.run(orders))
    with orders.from_signals(arguments.drain_seconds):
        return await _obeying(orders, work.run(orders))


class _Work:
    """What one process does: everything that takes long to import is imported here."""

    def __init__(self, client: LightningStoreClient, arguments: argparse.Namespace) -> None:
        from agentlightning.runner import LitAgentRunner
        from agentlightning.tracer import Tracer

        self._agent = _agent_of(arguments)
        # Whoever runs this stops it: the store may be away for as long as it likes.
        self._store = LightningStoreClient(client.server_address, retry_seconds=math.inf, queue=arguments.queue)
        self._runner: LitAgentRunner[Any] = LitAgentRunner(
            Tracer(instrumentors=arguments.instrumentor),
            arguments.max_rollouts,
            max_concurrency=arguments.concurrency,
        )
        self._as_json = arguments.json

    async def run(self, orders: Orders) -> None:
        """Take rollouts until there were enough, or it is to drain."""
        # Process ids are not enough: in containers all are 1, and those on a host's network share its name.
        worker_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        ended = _counting_hook()
        with self._runner.run_context(agent=self._agent, store=self._store, hooks=ended, worker_id=worker_id):
            if await self._is_there(orders):
                await self._runner.iter(event=orders.drain)
        await self._store.close()
        if self._as_json:
            print(json.dumps({"worker_id": worker_id, "rollouts": ended.count}), flush=True)

    async def _is_there(self, orders: Orders) -> bool:
        """Wait for the store and say what is to do; False when it is to drain before that."""
        asking, draining = asyncio.create_task(self._store.statistics()), asyncio.create_task(orders.drain.wait())
        try:
            await asyncio.wait({asking, draining}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                return False
            _log.info(_what_waits(self._store.server_address, self._store.queue or _DEFAULT_QUEUE, asking.result()))
            return True
        finally:
            asking.cancel()
            draining.cancel()


async def _obeying(orders: Orders, work: Coroutine[Any, Any, None]) -> int:
    """Do the work until it is done or is to stop."""
    working: asyncio.Future[Any] = asyncio.create_task(work)
    await asyncio.wait([working, orders.stopped], return_when=asyncio.FIRST_COMPLETED)
    if working.done():
        working.result()
        return 0
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    return orders.stopped.result()


def _what_waits(address: str, queue: str, statistics: LightningStoreStatistics) -> str:
    queued = statistics["queued"]
    where = f"Queue {queue!r} of the store at {address}"
    if count := queued.get(queue, 0):
        return f"{where}: {count} waiting."
    others = ", ".join(f"{name} ({count})" for name, count in sorted(queued.items()) if count)
    return f"{where}: nothing waits yet, in others: {others or 'nothing either'}."


def _counting_hook() -> Any:
    from agentlightning.runner import Hook

    class Count(Hook):
        count = 0

        async def on_rollout_end(self, **_: Any) -> None:
            self.count += 1

    return Count()


def _choose_agent(arguments: argparse.Namespace) -> None:
    """See that there is one agent; one that is named on the command line goes before a command that is set."""
    is_set = any(setting.name == "command" and setting.value == arguments.command for setting in arguments.settings)
    if arguments.agent and is_set:
        arguments.command = None
    if bool(arguments.agent) is bool(arguments.command):
        said = f"both {arguments.agent!r} and --command" if arguments.agent else "neither"
        raise NotUnderstoodError(f"the agent is MODULE:AGENT or --command, and here is {said}: name one")
    if arguments.show_output:
        logging.getLogger("agentlightning.runner.command").setLevel(logging.DEBUG)


def _agent_of(arguments: argparse.Namespace) -> Any:
    from agentlightning.litagent.reference import agent_at
    from agentlightning.runner.command import CommandAgent

    return CommandAgent(arguments.command) if arguments.command else agent_at(arguments.agent)


def _command_of_one(client: LightningStoreClient, arguments: argparse.Namespace) -> Sequence[str]:
    """What runs one of several processes."""
    given = {"store": client.server_address, "queue": arguments.queue, "max-rollouts": arguments.max_rollouts}
    options = [f"--{name}={value}" for name, value in given.items() if value is not None]
    options += [f"--instrumentor={name}" for name in arguments.instrumentor or ()]
    options += [f"--{name}" for name in ("json", "show-output") if getattr(arguments, name.replace("-", "_"))]
    options += [f"--concurrency={arguments.concurrency}", "--processes=1", "--lifeline"]
    agent = f"--command={arguments.command}" if arguments.command else arguments.agent
    return [sys.executable, "-m", "agentlightning", "runner", agent, *options]


def _take_stdin() -> int:
    """The lifeline, out of an agent's reach."""
    lifeline, nothing = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return lifeline


def _reference(text: str) -> str:
    from agentlightning.litagent.reference import split_reference

    try:
        split_reference(text)
    except AgentError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _runnable(text: str) -> str:
    from agentlightning.runner.command import CommandAgent

    try:
        CommandAgent(text)
    except AgentError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _at_least_one(text: str) -> int:
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 1")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if 0 <= seconds < math.inf:
        return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds, such as 30")
