"""`agl`: the store in a terminal, and what is in it. Puts the commands together; what they do, they say themselves.

The module of a command adds its parser, whose defaults name what is called: `command`, a coroutine of a client and the
arguments; or `alone`, a function of the arguments, for what has its own way to a store or needs none; and `shown_from`,
the least serious log lines to show if not warnings. The arguments also hold all `settings` and where each comes from.
"""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import NoReturn

from agentlightning import logs
from agentlightning.cli import (
    backup,
    client,
    doctor,
    explain,
    resources,
    rollouts,
    runner,
    runs,
    server,
    settings,
    top,
    trace,
    workers,
)
from agentlightning.cli.errors import NotUnderstoodError
from agentlightning.errors import AgentLightningError
from agentlightning.store.embedded import DEFAULT_FOLDER

_NOT_UNDERSTOOD = 2
_INTERRUPTED = 130
_CUT_OFF = 141
_COMMANDS = (server, runner, runs, rollouts, trace, explain, resources, workers, top, doctor, backup)
"""The modules of the commands, in the order of the help."""
_SETTINGS = """\
Every option but those that say which objects may also be set: as AGL_<NAME> in the environment (AGL_STORE=host:4747,
AGL_KEEP_DAYS=30), or in [tool.agentlightning] of the nearest pyproject.toml (store = "host:4747", keep-days = 30).
A flag goes before the environment, and that before the file.

exit status: 0 it did what it should, 1 it could not or found nothing, 2 it was not understood
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line with the way out."""

    def error(self, message: str) -> NoReturn:
        self.exit(_NOT_UNDERSTOOD, f"agl: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it did what it should, 1 when it could not or found nothing, 2 when not understood."""
    try:
        status = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return status
    except NotUnderstoodError as error:
        print(f"agl: {error}", file=sys.stderr)
        return _NOT_UNDERSTOOD
    except AgentLightningError as error:
        print(f"agl: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # as of `agl rollouts list | head`; what is left in the buffer has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _CUT_OFF
    except OSError as error:
        print(f"agl: {error.filename or 'input or output'}: {error.strerror or error}", file=sys.stderr)
        return 1


def _run(arguments: list[str]) -> int:
    parser = _parser()
    if arguments[:1] == ["store"]:
        # The server is another package: this process becomes it.
        flags = [] if {"-h", "--help"} & {*arguments} else settings.server_flags(parser)
        os.execv(sys.executable, [sys.executable, "-m", "agentlightning_server", *flags, *arguments[1:]])
    parser.parse_args(arguments)  # what asks for help or is not understood ends here, whatever is set
    known = settings.apply(parser)
    parsed = parser.parse_args(arguments, argparse.Namespace(settings=known))
    with logs.shown(getattr(parsed, "shown_from", logging.WARNING)):
        return _done(parsed)


def _done(parsed: argparse.Namespace) -> int:
    if hasattr(parsed, "alone"):
        return parsed.alone(parsed) or 0
    with client.client_of(parsed.store) as store:
        return asyncio.run(parsed.command(store, parsed)) or 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="agl",
        description="Train agents: a store, and what is in it.",
        epilog=_SETTINGS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"agl {version('agl-protocol')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("store", help="serve a store (agl store --help)", add_help=False)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--store", metavar="HOST:PORT", type=client.address, help=f"the store (default: the one of {DEFAULT_FOLDER})"
    )
    common.add_argument("--json", action="store_true", help="print JSON")
    for command in _COMMANDS:
        command.add_command(commands, common)
    return parser
