"""`agl rollouts cancel` and `retry`: rollouts by their ids, or all that a filter finds, once that is confirmed."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agentlightning.cli.errors import NotUnderstoodError
from agentlightning.cli.show import output
from agentlightning.cli.which import filters, ids
from agentlightning.store import LightningStoreClient
from agentlightning.types import Rollout, RolloutStatus
from agentlightning.types.rollout import ROLLOUT_STATUSES, TERMINAL_STATUSES

_LIVE: list[RolloutStatus] = [status for status in ROLLOUT_STATUSES if status not in TERMINAL_STATUSES]
_MISSED: list[RolloutStatus] = ["failed", "cancelled"]
_AT_ONCE = 100


async def _cancelled(client: LightningStoreClient, rollouts: Sequence[Rollout]) -> list[Rollout]:
    return await client.cancel_rollouts([rollout.rollout_id for rollout in rollouts])


async def _queued_again(client: LightningStoreClient, rollouts: Sequence[Rollout]) -> list[Rollout]:
    again = (client.update_rollout(rollout.rollout_id, status="requeuing") for rollout in rollouts)
    return await asyncio.gather(*again)


@dataclass(frozen=True)
class Verb:
    """What is done to rollouts."""

    name: str
    found: list[RolloutStatus]
    """In which statuses a filter finds them, unless it names others."""
    fit: list[RolloutStatus]
    """In which statuses it can be done."""
    change: Callable[[LightningStoreClient, Sequence[Rollout]], Awaitable[list[Rollout]]]


CANCEL = Verb("cancel", _LIVE, _LIVE, _cancelled)
RETRY = Verb("retry", _MISSED, [*TERMINAL_STATUSES], _queued_again)


def add_commands(verbs: Any, common: argparse.ArgumentParser, which: argparse.ArgumentParser) -> None:
    """Add the commands to those of a parser."""
    cancelling = verbs.add_parser(
        "cancel",
        parents=[common, which],
        help="end rollouts that have not ended",
        description="End rollouts that have not ended; who works on one is told at once.",
        epilog="example: agl rollouts cancel --run run-4f1c --status queuing --yes",
    )
    cancelling.set_defaults(coroutine=change_rollouts, verb=CANCEL)
    retrying = verbs.add_parser(
        "retry",
        parents=[common, which],
        help="queue rollouts again that have ended",
        description="Queue rollouts again that have ended, each in its own queue; a filter finds those that failed or "
        "were cancelled, unless it names a status.",
        epilog="example: agl rollouts retry ro-5f0c ro-77ab",
    )
    retrying.set_defaults(coroutine=change_rollouts, verb=RETRY)
    for parser in (cancelling, retrying):
        parser.add_argument("rollout_ids", nargs="*", metavar="ROLLOUT", help="a rollout's id, or how it begins")
        parser.add_argument("--yes", action="store_true", help="do not ask before changing all that a filter finds")


async def change_rollouts(client: LightningStoreClient, arguments: argparse.Namespace) -> int:
    """Cancel rollouts or queue them again; 1 when that cannot be done to one that is named, or there is none."""
    verb: Verb = arguments.verb
    found = await _found(client, arguments)
    fit = [rollout for rollout in found if rollout.status in verb.fit]
    by_filter = not arguments.rollout_ids
    if by_filter and fit and not (arguments.yes or await _is_confirmed(f"{verb.name} {len(fit)} rollouts")):
        output.note("nothing was changed")
        return 1
    changed: list[Rollout] = []
    for start in range(0, len(fit), _AT_ONCE):
        changed += await verb.change(client, fit[start : start + _AT_ONCE])
    others = [] if by_filter else [rollout for rollout in found if rollout.status not in verb.fit]
    _print(changed, others, arguments)
    return 0 if changed and not others else 1


async def _found(client: LightningStoreClient, arguments: argparse.Namespace) -> list[Rollout]:
    """Those that are named, or those that the filter finds."""
    if arguments.rollout_ids:
        if filters.names_any(arguments):
            raise NotUnderstoodError("rollouts are named by ids and by a filter: give the one or the other")
        found = [await ids.rollout(client, text) for text in arguments.rollout_ids]
        return [*{rollout.rollout_id: rollout for rollout in found}.values()]
    if not filters.names_any(arguments) and arguments.queue is None:
        raise NotUnderstoodError("which rollouts? name them by ids, or by a filter such as --run RUN")
    asked = await filters.Filter.of(client, arguments)
    return [rollout async for rollout in asked.rollouts(arguments.verb.found)]


async def _is_confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise NotUnderstoodError(f"this would {question}, and nobody is there to ask: say --yes to do it")
    print(f"{question}? [y/N] ", end="", file=sys.stderr, flush=True)
    loop, answered = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin, answered.set)  # a read that blocks would not hear Ctrl-C
    try:
        await answered.wait()
    finally:
        loop.remove_reader(sys.stdin)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _print(changed: Sequence[Rollout], others: Sequence[Rollout], arguments: argparse.Namespace) -> None:
    if arguments.json:
        output.print_json({"changed": changed, "unchanged": others})
        return
    for rollout in changed:
        print(f"{rollout.rollout_id}  {rollout.status}")
    for rollout in others:
        output.note(f"agl: {rollout.rollout_id} is {rollout.status}: there is nothing to {arguments.verb.name}")
    if not changed and not others:
        output.note(f"agl: no rollout fits: there is nothing to {arguments.verb.name}")
