"""`agl trace`: what happened in a rollout, span by span. Asks the store and prints; `waterfall` draws."""

import argparse
from collections.abc import Sequence
from typing import Any

from agentlightning.cli.show.output import to_json
from agentlightning.cli.show.text import counted, duration, fitted, plain, width
from agentlightning.cli.which import ids
from agentlightning.errors import NotFoundError
from agentlightning.store import LightningStoreClient
from agentlightning.types import Attempt, Rollout


def add_command(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to those of a parser."""
    parser = commands.add_parser(
        "trace",
        parents=[common],
        help="what happened in a rollout: its spans in time, what was said, the rewards",
        description="Show an attempt of a rollout: a line for each span, with a bar on the attempt's axis of time, how "
        "long it took, the model, its tokens, rewards and errors; below it what was said; at the end why it failed. "
        "What is left out to be readable says so, and how to see it. Exit status 1 when there are no spans.",
        epilog="example: agl trace ro-5f0c",
    )
    parser.add_argument("rollout_id", metavar="ROLLOUT", help="the rollout")
    parser.add_argument("--attempt", metavar="N", help="which attempt: its number or id (default: the latest)")
    parser.add_argument("--depth", type=int, metavar="N", help="how deep to look (default: as deep as can be read)")
    parser.add_argument("--full", action="store_true", help="show every span, and messages and stack traces whole")
    parser.set_defaults(coroutine=trace)


async def trace(client: LightningStoreClient, arguments: argparse.Namespace) -> int:
    """Print the spans of an attempt.

    Returns:
        1 when there are none, 0 otherwise.
    """
    from agentlightning.cli.facts.spantree import tree_of

    rollout = await ids.rollout(client, arguments.rollout_id)
    attempts = await client.query_attempts(rollout.rollout_id)
    attempt = _chosen(attempts, arguments.attempt, rollout)
    spans = await client.query_spans(rollout.rollout_id, attempt.attempt_id) if attempt else []
    trees = tree_of(spans)
    if arguments.json:
        print(to_json(_told(rollout, attempts, attempt, trees)))
    else:
        _show(rollout, attempts, attempt, trees, arguments)
    return 0 if trees else 1


def _chosen(attempts: Sequence[Attempt], wanted: str | None, rollout: Rollout) -> Attempt | None:
    if wanted is None:
        return attempts[-1] if attempts else None
    for attempt in attempts:
        if wanted in (str(attempt.sequence_id), attempt.attempt_id):
            return attempt
    known = ", ".join(f"{attempt.sequence_id} ({attempt.attempt_id})" for attempt in attempts) or "none"
    raise NotFoundError(f"{rollout.rollout_id} has no attempt {wanted!r}; its attempts are: {known}")


def _told(rollout: Rollout, attempts: Sequence[Attempt], attempt: Attempt | None, trees: Sequence[Any]) -> Any:
    spans = [{"depth": branch.depth, **branch.facts} for tree in trees for branch in tree.all_below()]
    return {
        "rollout": rollout.model_dump(mode="json", exclude={"attempt"}),
        "attempts": [known.model_dump(mode="json") for known in attempts],
        "attempt_id": attempt and attempt.attempt_id,
        "spans": spans,
    }


def _show(
    rollout: Rollout,
    attempts: Sequence[Attempt],
    attempt: Attempt | None,
    trees: Sequence[Any],
    arguments: argparse.Namespace,
) -> None:
    from rich.console import Console
    from rich.text import Text

    from agentlightning.cli.show.waterfall import waterfall

    lines = _heading(rollout, attempts, attempt, trees)
    lines += waterfall(trees, width=width(), depth=arguments.depth, full=arguments.full)
    lines += _ending(rollout, attempt, trees, full=arguments.full)
    console = Console(highlight=False, markup=False, emoji=False)
    for line in lines:
        console.print(Text(line.text, style=line.style), soft_wrap=True)


def _heading(rollout: Rollout, attempts: Sequence[Attempt], attempt: Attempt | None, trees: Sequence[Any]) -> list[Any]:
    from agentlightning.cli.show.waterfall import Line

    facts = [branch.facts for tree in trees for branch in tree.all_below()]
    calls = [told for told in facts if "model" in told]
    tokens = sum(told.get("prompt_tokens", 0) + told.get("completion_tokens", 0) for told in calls)
    whole = rollout.end_time and duration(rollout.end_time - rollout.start_time)
    reward = attempt.final_reward if attempt else None
    told = [f"{rollout.rollout_id} {rollout.status}{f' in {whole}' if whole else ''}: {counted(len(facts), 'span')}"]
    told += [f"{counted(len(calls), 'model call')} ({tokens} tokens)"] if calls else []
    told += ["no reward" if reward is None else f"reward {reward:g}"]
    task = to_json(rollout.input)
    lines = [Line(", ".join(told), "bold"), Line(fitted(f"task: {plain(task)}", width()).rstrip())]
    if len(attempts) > 1:
        lines += [Line(_attempt_line(known, known is attempt)) for known in attempts]
    return lines


def _attempt_line(attempt: Attempt, is_shown: bool) -> str:

    failure = f": {attempt.failure.kind}, {plain(str(attempt.failure))}" if attempt.failure else ""
    hint = "shown below" if is_shown else f"--attempt {attempt.sequence_id}"
    worker = f" by {attempt.worker_id}" if attempt.worker_id else ""
    line = f"attempt {attempt.sequence_id} {attempt.status}{plain(worker)} ({hint}){failure}"
    return fitted(line, width()).rstrip()


def _ending(rollout: Rollout, attempt: Attempt | None, trees: Sequence[Any], *, full: bool) -> list[Any]:
    from agentlightning.cli.show.waterfall import Line

    if attempt is None:
        return [Line(f"no attempt yet: it waits in queue {rollout.queue!r} for a worker")]
    lines = []
    if not trees:
        hint = "" if rollout.is_terminal else " yet: they are sent as they end"
        lines.append(Line(f"attempt {attempt.sequence_id} ({attempt.status}) has no spans{hint}"))
    if attempt.lost_span_count:
        lines.append(Line(f"{counted(attempt.lost_span_count, 'span')} could not be delivered by the runner", "red"))
    if failure := attempt.failure:
        lines.append(Line(f"failed ({failure.kind}): {plain(str(failure))}", "red"))
        stack = plain(failure.stack_trace, keep_lines=True).rstrip().splitlines()
        shown = stack if full else stack[-6:]
        lines += [Line(f"  ... {counted(len(stack) - len(shown), 'more line')}: --full", "dim")] * (
            len(shown) < len(stack)
        )
        lines += [Line(f"  {line}", "dim") for line in shown]
    return lines
