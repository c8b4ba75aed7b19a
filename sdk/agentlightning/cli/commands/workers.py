"""`agl workers`: who takes rollouts, and what each has in hand."""

import argparse
import time
from typing import Any

from agentlightning.cli.show import output
from agentlightning.store import LightningStoreClient


def add_command(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to those of a parser."""
    parser = commands.add_parser(
        "workers",
        parents=[common],
        help="who takes rollouts",
        description="List the workers that the store has heard of: status, queue, last heartbeat, the rollout in hand.",
        epilog="example: agl workers",
    )
    parser.set_defaults(coroutine=list_workers)


async def list_workers(client: LightningStoreClient, arguments: argparse.Namespace) -> int:
    """Print a line for each worker."""
    workers = await client.query_workers()
    if arguments.json:
        output.print_json(workers)
        return 0
    now = time.time()
    rows = [
        (
            worker.worker_id,
            worker.status,
            worker.queue,
            _ago(worker.last_heartbeat_time, now),
            worker.current_rollout_id,
        )
        for worker in workers
    ]
    output.print_table(("worker", "status", "queue", "last heartbeat", "rollout"), rows)
    return 0


def _ago(seconds: float | None, now: float) -> str:
    return "" if seconds is None else f"{max(0, now - seconds):.0f} s ago"
