"""The commands of `agl`, put together; what they do, they say themselves.

The module of a command adds its parser, whose defaults name what is called: `coroutine`, one of a client and the
arguments; or `alone`, a function of the arguments, for what has its own way to a store or needs none; and `shown_from`,
the least serious log lines to show if not warnings. The arguments also hold all `settings` and where each comes from.
"""

import argparse
import asyncio
import logging
import os
import sys
from importlib.metadata import version

from agentlightning import logs
from agentlightning.cli import settings
from agentlightning.cli.commands import (
    backup,
    doctor,
    emit,
    explain,
    resources,
    rollouts,
    runner,
    runs,
    server,
    top,
    trace,
    workers,
)
from agentlightning.cli.parser import Parser
from agentlightning.cli.which import client
from agentlightning.store.embedded import DEFAULT_FOLDER

_COMMANDS = (server, runner, runs, rollouts, trace, explain, resources, workers, top, doctor, backup, emit)
"""The modules of the commands, in the order of the help."""
_SETTINGS = """\
Every option but those that say which objects may also be set: as AGL_<NAME> in the environment (AGL_STORE=host:4747,
AGL_KEEP_DAYS=30), or in [tool.agentlightning] of the nearest pyproject.toml (store = "host:4747", keep-days = 30).
A flag goes before the environment, and that before the file.

exit status: 0 it did what it should, 1 it could not or found nothing, 2 it was not understood
"""


def run(arguments: list[str]) -> int:
    """Run what a command line says, with what is set."""
    every = parser()
    if arguments[:1] == ["store"]:
        # The server is another package: this process becomes it.
        flags = [] if {"-h", "--help"} & {*arguments} else settings.server_flags(every)
        os.execv(sys.executable, [sys.executable, "-m", "agentlightning_server", *flags, *arguments[1:]])
    every.parse_args(arguments)  # what asks for help or is not understood ends here, whatever is set
    known = settings.apply(every)
    parsed = every.parse_args(arguments, argparse.Namespace(settings=known))
    with logs.shown(getattr(parsed, "shown_from", logging.WARNING)):
        return _done(parsed)


def _done(parsed: argparse.Namespace) -> int:
    if hasattr(parsed, "alone"):
        return parsed.alone(parsed) or 0
    with client.client_of(parsed.store) as store:
        return asyncio.run(parsed.coroutine(store, parsed)) or 0


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    every = Parser(
        prog="agl",
        description="Train agents: a store, and what is in it.",
        epilog=_SETTINGS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    every.add_argument("--version", action="version", version=f"agl {version('agl-protocol')}")
    commands = every.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("store", help="serve a store (agl store --help)", add_help=False)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--store", metavar="HOST:PORT", type=client.address, help=f"the store (default: the one of {DEFAULT_FOLDER})"
    )
    common.add_argument("--json", action="store_true", help="print JSON")
    for command in _COMMANDS:
        command.add_command(commands, common)
    return every
