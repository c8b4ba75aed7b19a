"""`agl explain`: which calls of a model in a rollout become training data, and why the others do not."""

import argparse
import json
from typing import Any

from agentlightning.cli.which import ids
from agentlightning.store import LightningStoreClient
from agentlightning.types import AttemptedRollout, Rollout

_ADAPTERS = {"triplet": "TracerTraceToTriplet", "proxy": "LlmProxyTraceToTriplet", "messages": "TraceToMessages"}


def add_command(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to those of a parser."""
    parser = commands.add_parser(
        "explain",
        parents=[common],
        help="which calls of a model in a rollout are training data, and why others not",
        description="Print a line for each call of a model in a rollout: used as training data or dropped, and why.",
        epilog="example: agl explain ro-5f0c",
    )
    parser.add_argument(
        "rollout_id", metavar="ROLLOUT", help="the rollout's id, or how it begins; its latest attempt counts"
    )
    parser.add_argument("--adapter", choices=sorted(_ADAPTERS), default="triplet", help="what asks (default: triplet)")
    parser.set_defaults(coroutine=explain)


async def explain(client: LightningStoreClient, arguments: argparse.Namespace) -> int:
    """Print a line for each call, then how many are used.

    Returns:
        1 when none is, 0 otherwise.
    """
    import agentlightning as agl
    from agentlightning.adapter.explanation import why

    rollout = await ids.rollout(client, arguments.rollout_id)
    spans = await client.query_spans(rollout.rollout_id, "latest")
    name = _ADAPTERS[arguments.adapter]
    adapter: agl.LLMCallAdapter[Any] = getattr(agl, name)()
    explanations = adapter.explain(spans)
    used = sum(explanation.used for explanation in explanations)
    if arguments.json:
        print(json.dumps({**_told(rollout), "adapter": name, "calls": [_call(told) for told in explanations]}))
        return 0 if used else 1
    for explanation in explanations:
        print(explanation)
    print(f"{used} of {len(explanations)} calls used by {name}{'' if explanations else f': {why([], spans)}'}")
    return 0 if used else 1


def _told(rollout: Rollout) -> dict[str, Any]:
    attempt_id = rollout.attempt.attempt_id if isinstance(rollout, AttemptedRollout) else None
    return {"rollout_id": rollout.rollout_id, "attempt_id": attempt_id}


def _call(explanation: Any) -> dict[str, Any]:
    span = explanation.span
    return {
        "span_id": span.span_id,
        "sequence_id": span.sequence_id,
        "name": span.name,
        "used": explanation.used,
        "reason": explanation.reason,
    }
