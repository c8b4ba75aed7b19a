"""`agl runs`: what algorithms did."""

import argparse
from pathlib import Path
from typing import Any

from agentlightning.cli.commands import export, resume
from agentlightning.cli.show import output
from agentlightning.cli.which import ids
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
    listing.set_defaults(coroutine=list_runs)
    showing = verbs.add_parser(
        "show",
        parents=[common],
        help="what a run came to",
        description="Show what a run came to: scores, the prompt as a diff, what it cost, how to go on; or write it to "
        "a file, with all candidates and tasks, and plots in HTML.",
        epilog="example: agl runs show run-4f1c --html report.html",
    )
    showing.add_argument("run_id", metavar="RUN", help="the run's id, or how it begins")
    form = showing.add_mutually_exclusive_group()
    form.add_argument("--markdown", metavar="FILE", type=Path, help="write it as Markdown")
    form.add_argument("--html", metavar="FILE", type=Path, help="write it as one HTML page, which needs nothing else")
    showing.set_defaults(coroutine=show_run)
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
    """Print what a run came to, or write it to a file."""
    from agentlightning.trainer.report import html_page, markdown_page, result_lines

    run = await ids.run(client, arguments.run_id)
    if arguments.markdown is not None:
        _write(arguments.markdown, markdown_page(run), arguments.json)
    elif arguments.html is not None:
        _write(arguments.html, html_page(run), arguments.json)
    elif arguments.json:
        output.print_json(run)
    else:
        print("\n".join(result_lines(run)))
    return 0


def _write(path: Path, text: str, as_json: bool) -> None:
    path.write_text(text, encoding="utf-8")
    output.print_json({"path": str(path)}) if as_json else print(path)
