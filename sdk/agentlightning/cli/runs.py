"""`agl runs`: what algorithms did."""

import argparse
from typing import Any

from agentlightning.cli import export, ids, output, resume
from agentlightning.store import LightningStoreClient


def add_command(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to those of a parser."""
    runs = commands.add_parser("runs", help="what algorithms did: list, show, resume, export")
    verbs = runs.add_subparsers(required=True, metavar="COMMAND")
    listing = verbs.add_parser(
        "list",
        parents=[common],
        help="all runs, newest first",
        description="List the runs of the store, newest first: status, algorithm, best score.",
        epilog="example: agl runs list",
    )
    listing.set_defaults(command=list_runs)
    showing = verbs.add_parser(
        "show",
        parents=[common],
        help="what a run came to",
        description="Show what a run came to: scores, the prompt as a diff, where it was saved.",
        epilog="example: agl runs show run-4f1c",
    )
    showing.add_argument("run_id", metavar="RUN", help="the run's id, or how it begins")
    showing.set_defaults(command=show_run)
    resume.add_command(verbs, common)
    export.add_command(verbs, common)


async def list_runs(client: LightningStoreClient, arguments: argparse.Namespace) -> int:
    """Print a line for each run."""
    runs = await client.query_runs()
    if arguments.json:
        output.print_json(runs)
        return 0
    rows = [
        (
            run.run_id,
            output.when(run.create_time),
            run.algorithm,
            run.status,
            output.number((run.summary or {}).get("best_score")),
        )
        for run in runs
    ]
    output.print_table(("run", "started", "algorithm", "status", "best score"), rows)
    return 0


async def show_run(client: LightningStoreClient, arguments: argparse.Namespace) -> int:
    """Print what a run came to."""
    from agentlightning.trainer.report import result_lines

    run = await ids.run(client, arguments.run_id)
    if arguments.json:
        output.print_json(run)
    else:
        print("\n".join(result_lines(run)))
    return 0
