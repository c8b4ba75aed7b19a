"""`agl rollouts`: what is to be done, is being done, was done; and to look at one."""

import argparse
from typing import Any

from agentlightning.cli.commands import change, tail
from agentlightning.cli.show import output
from agentlightning.cli.show.text import plain
from agentlightning.cli.which import filters, ids
from agentlightning.store import LightningStoreClient
from agentlightning.types import Attempt, AttemptedRollout, ResourcesUpdate, Rollout

_LIMIT = 50


def add_command(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to those of a parser."""
    rollouts = commands.add_parser("rollouts", help="tasks and what became of them: list, show, cancel, retry, tail")
    verbs = rollouts.add_subparsers(required=True, metavar="COMMAND")
    which = filters.options()
    listing = verbs.add_parser(
        "list",
        parents=[common, which],
        help="rollouts, newest first",
        description="List rollouts, newest first, with the reward or the failure of their latest attempt.",
        epilog="example: agl rollouts list --status failed --label split=hard --limit 10",
    )
    listing.add_argument(
        "--limit", type=_count, default=_LIMIT, metavar="N", help="how many at most; 0 for all (default: %(default)s)"
    )
    listing.set_defaults(coroutine=list_rollouts)
    showing = verbs.add_parser(
        "show",
        parents=[common],
        help="one rollout and its attempts",
        description="Show a rollout: its task, its resources, its reward, and of each attempt how it ended.",
        epilog="example: agl rollouts show ro-5f0c",
    )
    showing.add_argument("rollout_id", metavar="ROLLOUT", help="the rollout's id, or how it begins")
    showing.set_defaults(coroutine=show_rollout)
    change.add_commands(verbs, common, which)
    tail.add_command(verbs, common, which)


async def list_rollouts(client: LightningStoreClient, arguments: argparse.Namespace) -> int:
    """Print a line for each rollout."""
    asked = await filters.Filter.of(client, arguments)
    limit = arguments.limit or -1
    found = await asked.store.query_rollouts(**asked.query, sort_by="start_time", sort_order="desc", limit=limit)
    if arguments.json:
        output.print_json(found)
        return 0
    output.print_table(("rollout", "created", "mode", "status", "reward", "took", "task"), map(_row, found))
    if len(found) < found.total:
        output.note(f"{len(found)} of {found.total}; --limit 0 for all")
    return 0


async def show_rollout(client: LightningStoreClient, arguments: argparse.Namespace) -> int:
    """Print what there is to know of a rollout, but for its spans."""
    rollout = await ids.rollout(client, arguments.rollout_id)
    attempts = list(await client.query_attempts(rollout.rollout_id))
    if arguments.json:
        output.print_json({**rollout.model_dump(), "attempts": attempts})
        return 0
    resources = None
    if rollout.resources_id is not None:
        resources = await client.get_resources_by_id(rollout.resources_id, rollout.resources_version)
    output.print_fields(_fields(rollout, resources))
    if attempts:
        print()
        titles = ("attempt", "status", "worker", "started", "took", "reward", "failure")
        output.print_table(titles, map(_attempt_row, attempts))
        _print_stack(attempts[-1])
    return 0


def status_of(rollout: Rollout) -> str:
    """The status; of a failed rollout also who is to blame."""
    failure = rollout.attempt.failure if isinstance(rollout, AttemptedRollout) else None
    blamed = rollout.status == "failed" and failure is not None
    return f"{rollout.status} ({failure.kind})" if blamed and failure else rollout.status


def _count(text: str) -> int:
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of rollouts, such as 10, or 0 for all")


def _row(rollout: Rollout) -> tuple[object, ...]:
    return (
        rollout.rollout_id,
        output.when(rollout.start_time),
        rollout.mode,
        status_of(rollout),
        output.number(rollout.final_reward),
        output.elapsed(rollout.start_time, rollout.end_time),
        output.one_line(rollout.input),
    )


def _fields(rollout: Rollout, resources: ResourcesUpdate | None) -> list[tuple[str, object]]:
    pinned = (
        None
        if resources is None
        else f"{resources.resources_id}@{resources.version}: "
        + ", ".join(f"{name} ({resource.resource_type})" for name, resource in resources.resources.items())
    )
    return [
        ("rollout", rollout.rollout_id),
        ("status", status_of(rollout)),
        ("reward", output.number(rollout.final_reward)),
        ("run", rollout.run_id),
        ("queue", rollout.queue),
        ("priority", rollout.priority or None),
        ("mode", rollout.mode),
        ("labels", ", ".join(f"{key}={value}" for key, value in rollout.labels.items())),
        ("created", output.moment(rollout.start_time)),
        ("ended", output.moment(rollout.end_time)),
        ("next try", output.moment(rollout.available_time)),
        ("resources", pinned),
        ("task", output.one_line(rollout.input)),
        ("config", _json(rollout.config.model_dump(exclude_defaults=True))),
        ("metadata", _json(rollout.metadata)),
    ]


def _json(fields: dict[str, Any] | None) -> str:
    return output.to_json(fields) if fields else ""


def _attempt_row(attempt: Attempt) -> tuple[object, ...]:
    return (
        attempt.attempt_id,
        attempt.status,
        attempt.worker_id,
        output.when(attempt.start_time),
        output.elapsed(attempt.start_time, attempt.end_time),
        output.number(attempt.final_reward),
        None if attempt.failure is None else output.one_line(f"{attempt.failure.kind}: {attempt.failure}"),
    )


def _print_stack(attempt: Attempt) -> None:
    if attempt.failure is not None and attempt.failure.stack_trace:
        print(f"\n{plain(attempt.failure.stack_trace.rstrip(), keep_lines=True)}")
