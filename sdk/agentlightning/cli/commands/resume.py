"""`agl runs resume`: start again what a run was started by, so that it goes on. Knows no algorithm."""

import argparse
import asyncio
import os
import sys
from typing import Any

from agentlightning.cli.which import client, ids
from agentlightning.errors import NotFoundError
from agentlightning.types import Run


def add_command(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to those of a parser."""
    parser = verbs.add_parser(
        "resume",
        parents=[common],
        help="go on with a run",
        description="Start the program of a run again, in its folder, to go on from where the run was ended: by its "
        "budget, Ctrl-C, a failure or kill -9. What the run did is not done again.",
        epilog="example: agl runs resume run-4f1c",
    )
    parser.add_argument("run_id", metavar="RUN", help="the run's id, or how it begins")
    parser.add_argument("--changed", action="store_true", help="even if its settings or data have changed")
    parser.set_defaults(alone=resume)


def resume(arguments: argparse.Namespace) -> int:
    """Become the program of a run.

    Raises:
        NotFoundError: Nothing is known that starts it.
    """
    from agentlightning.trainer.fit import resumption

    run = _run(arguments)
    if run.status == "succeeded" and not (run.summary or {}).get("stopped_by"):
        print(f"run {run.run_id} has succeeded already: see it with agl runs show {run.run_id}")
        return 0
    started = (run.config or {}).get("started") or {}
    command, folder = started.get("command"), started.get("folder")
    if not command:
        raise NotFoundError(
            f"run {run.run_id} was started from a notebook, an interpreter or a program that is not known: "
            f"go on there with trainer.fit(..., resume={run.run_id!r})"
        )
    environment = resumption.environment_for(run, changed=arguments.changed)
    print(f"in {folder}: {' '.join(command)}", flush=True)
    os.chdir(str(folder))
    sys.stdout.flush()
    os.execve(command[0], command, environment)


def _run(arguments: argparse.Namespace) -> Run:
    async def read() -> Run:
        found = await ids.run(store, arguments.run_id)
        await store.close()
        return found

    with client.client_of(arguments.store) as store:
        return asyncio.run(read())
