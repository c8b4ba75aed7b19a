"""`agl doctor`: does it work here, and if not, why. Asks the checks in order and prints; they look."""

import argparse
import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from agentlightning.cli.show.output import to_json
from agentlightning.cli.show.text import counted, plain
from agentlightning.errors import AgentLightningError
from agentlightning.store import LightningStoreClient
from agentlightning.store.embedded import DATABASE_NAME, DEFAULT_FOLDER, EmbeddedStore

if TYPE_CHECKING:
    from agentlightning.cli.checks import Finding

_RETRY_SECONDS = 5
_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def add_command(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to those of a parser."""
    parser = commands.add_parser(
        "doctor",
        parents=[common],
        help="can this machine reach the store, is tracing recording, what is missing, what is stuck and why",
        description="Look at this Python and its packages, at whether an agent's calls are recorded (a tiny one runs "
        "under the tracer, without a key or a network), at the store of this folder or the one of --store, and at what "
        "is stuck in it. A line for each: ok, warning or problem, what there is, and the way out. Changes nothing. "
        "Exit status 1 when there is a problem.",
        epilog="example: agl doctor --store 10.0.0.5:4747",
    )
    parser.set_defaults(alone=doctor)


def doctor(arguments: argparse.Namespace) -> int:
    """Print what was found, a line each.

    Returns:
        1 when there is a problem, 0 otherwise.
    """
    return asyncio.run(_doctor(arguments))


async def _doctor(arguments: argparse.Namespace) -> int:
    found = []
    async for finding in _findings(arguments.store):
        found.append(finding)
        if not arguments.json:
            _print(finding)
    verdicts = Counter(finding.verdict for finding in found)
    problems, warnings = verdicts["problem"], verdicts["warning"]
    if arguments.json:
        print(to_json({"findings": [*map(asdict, found)], "problems": problems, "warnings": warnings}))
    else:
        print(f"{counted(problems, 'problem')}, {counted(warnings, 'warning')}")
    return 1 if problems else 0


async def _findings(address: str | None) -> "AsyncIterator[Finding]":
    from agentlightning.cli.checks.folder import folder
    from agentlightning.cli.checks.packages import packages
    from agentlightning.cli.checks.recording import recording

    for finding in packages():
        yield finding
    yield await recording()
    if address is not None:
        async for finding in _of_store(address):
            yield finding
        return
    for finding in folder(DEFAULT_FOLDER):
        yield finding
    if (DEFAULT_FOLDER / DATABASE_NAME).exists():
        async for finding in _of_folder():
            yield finding


async def _of_folder() -> "AsyncIterator[Finding]":
    from agentlightning.cli.checks import Finding

    try:
        with EmbeddedStore(DEFAULT_FOLDER) as store:
            async for finding in _of_store(store.address):
                yield finding
    except (AgentLightningError, OSError) as error:
        yield Finding("store", "problem", str(error), f"see {DEFAULT_FOLDER / 'store.log'}")


async def _of_store(address: str) -> "AsyncIterator[Finding]":
    from agentlightning.cli.checks import Finding
    from agentlightning.cli.checks.reach import UnreachableError, reach
    from agentlightning.cli.checks.work import work

    client = LightningStoreClient(address, retry_seconds=_RETRY_SECONDS)
    try:
        async for finding in reach(client):
            yield finding
        async for finding in work(client):
            yield finding
    except UnreachableError as error:
        yield error.finding
    except AgentLightningError as error:
        yield Finding("store", "problem", str(error), "see the log of the store")


def _print(finding: "Finding") -> None:
    from rich.console import Console
    from rich.text import Text

    line = Text(f"{finding.verdict:<8}", style=_STYLES[finding.verdict])
    line.append(plain(f"{finding.check}: {finding.what}"), style="default")
    if finding.way_out:
        line.append(plain(f"  -> {finding.way_out}"), style="dim")
    Console(highlight=False, markup=False, emoji=False).print(line, soft_wrap=True)
