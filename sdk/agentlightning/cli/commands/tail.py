"""`agl rollouts tail`: rollouts as they change."""

import argparse
import time
from contextlib import aclosing
from typing import Any

from agentlightning.cli.show import output
from agentlightning.cli.which import filters
from agentlightning.store import LightningStoreClient
from agentlightning.types import AttemptedRollout, Rollout


def add_command(verbs: Any, common: argparse.ArgumentParser, which: argparse.ArgumentParser) -> None:
    """Add the command to those of a parser."""
    parser = verbs.add_parser(
        "tail",
        parents=[common, which],
        help="a line for each change, until Ctrl-C",
        description="Print a line for each change of a rollout from now on, until Ctrl-C; steps that follow each other "
        "closely may be one. With --json, each line is the rollout.",
        epilog="example: agl rollouts tail --run run-4f1c --status failed",
    )
    parser.set_defaults(coroutine=tail_rollouts)


async def tail_rollouts(client: LightningStoreClient, arguments: argparse.Namespace) -> int:
    """Print rollouts as they change; never ends by itself."""
    asked = await filters.Filter.of(client, arguments)
    revision = (await client.query_rollouts(limit=1)).revision
    output.note("following; Ctrl-C ends it")
    async with aclosing(asked.store.watch(revision, queue=asked.queue)) as changes:
        async for change in changes:
            if isinstance(change.object, Rollout) and asked.matches(change.object):
                print(output.to_json(change.object) if arguments.json else _line(change.object), flush=True)
    return 0


def _line(rollout: Rollout) -> str:
    told = [time.strftime("%H:%M:%S"), rollout.rollout_id, rollout.status.ljust(9)]
    if isinstance(rollout, AttemptedRollout):
        told.append(f"attempt {rollout.attempt.sequence_id}")
        if rollout.attempt.worker_id and not rollout.is_terminal:
            told.append(f"on {rollout.attempt.worker_id}")
        if rollout.attempt.failure is not None:
            told.append(output.one_line(f"{rollout.attempt.failure.kind}: {rollout.attempt.failure}"))
    if rollout.final_reward is not None:
        told.append(f"reward {output.number(rollout.final_reward)}")
    return "  ".join(told)
