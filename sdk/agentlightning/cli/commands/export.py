"""`agl runs export`: a run's rollouts with their attempts and spans, as JSON lines, however many there are."""

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import IO, Any

from agentlightning.cli.show import output
from agentlightning.cli.which import filters
from agentlightning.errors import NotFoundError
from agentlightning.store import LightningStoreClient
from agentlightning.types import AttemptedRollout, Rollout

_AT_ONCE = 16


def add_command(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to those of a parser."""
    parser = verbs.add_parser(
        "export",
        parents=[common, filters.options(run=False)],
        help="a run's rollouts with their spans, as JSON lines",
        description="Write a run's rollouts, oldest first, each a line of JSON: the rollout, with its attempts and "
        "their spans. It reads as it writes, so a run may be larger than memory.",
        epilog="example: agl runs export run-4f1c --to run.jsonl",
    )
    parser.add_argument("run", metavar="RUN", help="the run's id, or how it begins")
    parser.add_argument("--to", metavar="FILE", type=Path, help="the file (default: print it)")
    parser.set_defaults(coroutine=export_run)


async def export_run(client: LightningStoreClient, arguments: argparse.Namespace) -> int:
    """Write a line for each rollout.

    Raises:
        NotFoundError: There is no such run, or none of its rollouts fits.
    """
    asked = await filters.Filter.of(client, arguments)
    count = 0
    with _writing(arguments.to) as file:
        async with aclosing(_lines(client, asked)) as lines:
            async for line in lines:
                file.write(line + "\n")
                count += 1
        if not count:
            raise NotFoundError(f"run {asked.store.run_id} has no such rollouts")
    if arguments.to is not None:
        _print_done(arguments, str(asked.store.run_id), count)
    return 0


async def _lines(client: LightningStoreClient, asked: filters.Filter) -> AsyncGenerator[str, None]:
    """A few rollouts are read at once, and come in their order."""
    some: list[Rollout] = []
    async with aclosing(asked.rollouts()) as rollouts:
        async for rollout in rollouts:
            some.append(rollout)
            if len(some) == _AT_ONCE:
                for line in await asyncio.gather(*(_line(client, each) for each in some)):
                    yield line
                some.clear()
    for line in await asyncio.gather(*(_line(client, each) for each in some)):
        yield line


async def _line(client: LightningStoreClient, rollout: Rollout) -> str:
    attempts, spans = [], []
    if isinstance(rollout, AttemptedRollout):
        attempts = [rollout.attempt]
        if rollout.attempt.sequence_id > 1:
            attempts = [*await client.query_attempts(rollout.rollout_id)]
        spans = [*await client.query_spans(rollout.rollout_id)]
    told = {field: getattr(rollout, field) for field in Rollout.model_fields}
    return output.to_json({**told, "final_reward": rollout.final_reward, "attempts": attempts, "spans": spans})


@contextlib.contextmanager
def _writing(path: Path | None) -> Iterator[IO[str]]:
    """Standard output, or a file that is there only when it is whole."""
    if path is None:
        yield sys.stdout
        return
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8") as file:
            yield file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _print_done(arguments: argparse.Namespace, run_id: str, count: int) -> None:
    if arguments.json:
        output.print_json({"path": str(arguments.to), "run_id": run_id, "rollouts": count})
    else:
        print(f"{arguments.to}  {count} rollouts of {run_id}")
