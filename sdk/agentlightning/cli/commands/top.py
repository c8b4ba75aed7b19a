"""`agl top`: a store at work, once or as it goes on. Draws what `reading` reads; asks nothing itself."""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from agentlightning.cli.show.text import counted, duration, plain, size, width
from agentlightning.errors import StoreUnavailableError
from agentlightning.store import LightningStoreClient

if TYPE_CHECKING:
    from rich.console import RenderableType

_SECONDS = 1.0
"""Between two readings."""


def add_command(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to those of a parser."""
    parser = commands.add_parser(
        "top",
        parents=[common],
        help="the store at work: queues, rates, leases, slowest rollouts, failures; live",
        description="Show the store at work, every second until q or Ctrl-C is pressed; in a pipe, or with --once or "
        "--json, once. For an autoscaler: agl top --once --queue QUEUE --json has the number of rollouts that wait as "
        "`queued` and of those at work as `running`.",
        epilog="example: agl top --once --queue rooms --json",
    )
    parser.add_argument("--queue", help="only what is in this queue (default: all)")
    parser.add_argument("--once", action="store_true", help="print one reading and end, as with --json or in a pipe")
    parser.set_defaults(coroutine=top)


async def top(client: LightningStoreClient, arguments: argparse.Namespace) -> int:
    """Show the store at work until `q` or Ctrl-C, or once.

    Returns:
        0.
    """
    from rich.console import Console

    from agentlightning.cli.facts.reading import read

    if arguments.json:
        print(json.dumps(await read(client, arguments.queue)))
    elif arguments.once or not sys.stdout.isatty():
        Console(width=width()).print(_view(await read(client, arguments.queue)))
    else:
        # One that does not try again by itself: that a store does not answer is news, too.
        await _live(LightningStoreClient(client.server_address, retry_seconds=0), arguments.queue)
    return 0


async def _live(client: LightningStoreClient, queue: str | None) -> None:
    from rich.live import Live

    with _told_to_stop() as stop, Live(screen=True, auto_refresh=False) as live:
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                looking = asyncio.create_task(_look(client, queue, live))
                await asyncio.wait({looking, stopping}, return_when=asyncio.FIRST_COMPLETED)
                looking.cancel()
                await asyncio.wait({looking})
                if not looking.cancelled():
                    looking.result()
                await asyncio.wait({stopping}, timeout=_SECONDS)
        finally:
            stopping.cancel()


async def _look(client: LightningStoreClient, queue: str | None, live: Any) -> None:
    """Draw a reading; a store that does not answer is said, and the next look may find it again."""
    from rich.text import Text

    from agentlightning.cli.facts.reading import read

    try:
        live.update(_view(await read(client, queue)), refresh=True)
    except StoreUnavailableError as error:
        live.update(Text(f"{error}\ntrying again; q ends", style="red"), refresh=True)


@contextlib.contextmanager
def _told_to_stop() -> Iterator[asyncio.Event]:
    """An event that Ctrl-C, SIGTERM and the key `q` set."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        with _keys(stop) if sys.stdin.isatty() else contextlib.nullcontext():
            yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def _keys(stop: asyncio.Event) -> Iterator[None]:
    """While the block runs, keys are read as they are pressed."""
    import os
    import termios
    import tty

    descriptor, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    before = termios.tcgetattr(descriptor)

    def pressed() -> None:
        keys = os.read(descriptor, 64)
        if not keys or b"q" in keys.lower():
            stop.set()

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, pressed)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _view(reading: dict[str, Any]) -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [Text(line, no_wrap=True, overflow="ellipsis") for line in _heading(reading)]
    queues = [[name, *map(_cell, told.values())] for name, told in reading["queues"].items()]
    parts += _table("queue  queued  oldest  running  succeeded  failed  cancelled", queues)
    running = [list(map(_cell, told.values())) for told in reading["slowest"]]
    parts += _table("slowest running  queue  worker  for  silent", running)
    failures = [list(map(_cell, told.values())) for told in reading["failures"]]
    parts += _table("failed of late  queue  ago  kind  reason", failures)
    return Group(*parts)


def _heading(reading: dict[str, Any]) -> list[str]:
    server, rates, leases = reading["server"], reading["rates"], reading["leases"]
    of_leases = [counted(leases["held"], "lease")]
    if leases["first_ends_in_seconds"] is not None:
        of_leases.append(f"first ends in {duration(max(0.0, leases['first_ends_in_seconds']))} unless renewed")
    if leases["oldest_heartbeat_seconds"] is not None:
        of_leases.append(f"longest silence {duration(leases['oldest_heartbeat_seconds'])}")
    return [
        f"store {server['address']}  version {server['version']}  up {duration(server['uptime_seconds'])}  "
        f"{size(server['database_bytes'])}  {server['database_path']}",
        f"{reading['queued']} queued, {reading['running']} running  |  a second, over the last "
        f"{duration(rates['window_seconds'])}: {rates['enqueued_per_second']:.2f} enqueued, "
        f"{rates['completed_per_second']:.2f} completed, {rates['spans_per_second']:.1f} spans",
        f"{', '.join(of_leases)}  |  {reading['workers']['busy']} of "
        f"{counted(reading['workers']['known'], 'worker')} busy",
    ]


def _table(titles: str, rows: list[list[str]]) -> "list[RenderableType]":
    """A table, or nothing if it has no rows; the last column has the room that is left, and is cut."""
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return []
    table = Table(box=None, expand=True, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    *others, last = titles.split("  ")
    for title in others:
        table.add_column(title, no_wrap=True)
    table.add_column(last, no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        table.add_row(*map(Text, row))
    return [Text(), table]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return duration(value)
    return "-" if value is None else plain(str(value))
