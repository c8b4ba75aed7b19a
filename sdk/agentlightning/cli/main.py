"""`agl`: the store in a terminal, and what is in it. Reads arguments and prints; what it does, others do."""

import argparse
import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from agentlightning.cli import explain
from agentlightning.errors import AgentLightningError, NotFoundError
from agentlightning.store import LightningStoreClient
from agentlightning.store.embedded import DATABASE_NAME, DEFAULT_FOLDER, EmbeddedStore


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it did what it should, 1 when it could not or found nothing, 2 when not understood."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["store"]:
        # The server is another package: this process becomes it.
        os.execv(sys.executable, [sys.executable, "-m", "agentlightning_server", *arguments[1:]])
    parsed = _parser().parse_args(arguments)
    try:
        with _client(parsed.store) as client:
            status: int | None = asyncio.run(parsed.command(client, parsed))
    except AgentLightningError as error:
        print(f"agl: {error}", file=sys.stderr)
        return 1
    return status or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="agl", description="Train agents: a store, and what is in it.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("store", help="serve a store (agl store --help)", add_help=False)
    runs = commands.add_parser("runs", help="what algorithms did").add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--store", help=f"the store's address (default: the one of {DEFAULT_FOLDER})")
    common.add_argument("--json", action="store_true", help="print JSON")
    listing = runs.add_parser("list", parents=[common], help="all runs, newest first")
    listing.set_defaults(command=_list_runs)
    showing = runs.add_parser("show", parents=[common], help="what a run came to")
    showing.add_argument("run_id", metavar="RUN", help="the run, as `agl runs list` names it")
    showing.set_defaults(command=_show_run)
    explain.add_command(commands, common)
    return parser


@contextlib.contextmanager
def _client(address: str | None) -> Iterator[LightningStoreClient]:
    """A client of the store named, or of this folder's, which is started for the command if nobody serves it."""
    if address is not None:
        yield LightningStoreClient(address, retry_seconds=5)
        return
    if not (DEFAULT_FOLDER / DATABASE_NAME).exists():
        raise NotFoundError(
            f"there is no store in {Path.cwd()}: go to the folder where you trained, or name one with --store HOST:PORT"
        )
    with EmbeddedStore(DEFAULT_FOLDER) as store:
        yield LightningStoreClient(store.address, retry_seconds=5)


async def _list_runs(client: LightningStoreClient, arguments: argparse.Namespace) -> None:
    runs = await client.query_runs()
    if arguments.json:
        print(json.dumps([run.model_dump() for run in runs]))
        return
    for run in runs:
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.create_time))
        best = (run.summary or {}).get("best_score")
        print(
            f"{run.run_id}  {began}  {run.algorithm:<10} {run.status:<10} {'' if best is None else f'best {best:.2f}'}"
        )


async def _show_run(client: LightningStoreClient, arguments: argparse.Namespace) -> None:
    from agentlightning.trainer.report import result_lines

    run = await client.get_run(arguments.run_id)
    if run is None:
        known = ", ".join(known.run_id for known in list(await client.query_runs())[:5]) or "none"
        raise NotFoundError(f"there is no run {arguments.run_id!r}; the newest are: {known}")
    print(json.dumps(run.model_dump()) if arguments.json else "\n".join(result_lines(run)))
