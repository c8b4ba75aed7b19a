"""What the critic is shown of rollouts: failures first, errors first, and never more than it can read. Asks nobody."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from agentlightning.algorithm import Evaluation

from agentlightning_algorithms.apo.prompts import block, shortened

_LIMIT = 12_000
_LEAST_OF_AN_ENTRY = 80


def digest(evaluations: Sequence[Evaluation], traces: Sequence[Sequence[Any]], perfect: float) -> str:
    """The rollouts as the critic sees them: those that went badly, the worst first, then one that went well.

    Args:
        evaluations: What came of the tasks; those without a score are left out.
        traces: The entries of each, in the same order.
        perfect: The score of a rollout with which nothing is wrong.
    """
    pairs = [(e, trace) for e, trace in zip(evaluations, traces, strict=True) if e.score is not None]
    pairs.sort(key=lambda pair: pair[0].score or 0.0)
    failing = [pair for pair in pairs if (pair[0].score or 0.0) < perfect]
    shown = failing + pairs[len(failing) :][:1]
    room = _LIMIT // max(len(shown), 1)
    return "\n".join(_rollout(number, *pair, room) for number, pair in enumerate(shown, 1))


def no_traces(evaluations: Sequence[Evaluation], recorded: str) -> str:
    """What to do where rollouts leave nothing to criticise.

    Args:
        evaluations: The rollouts.
        recorded: What the tracer recorded in them.
    """
    failures = [str(evaluation.failure) for evaluation in evaluations if evaluation.failure]
    cause = f" The first rollout that failed ended with {failures[0]}." if failures else ""
    return (
        f"the tracer recorded {recorded} in {len(evaluations)} rollouts, so there is nothing to criticise.{cause} Let "
        "the agent call its model through a library that the tracer instruments (openai is), in the process of the "
        "runner, or record the calls as spans with the gen_ai attributes"
    )


def _rollout(number: int, evaluation: Evaluation, trace: Sequence[Any], room: int) -> str:
    failure = [f"<error>{evaluation.failure}</error>"] if evaluation.failure else []
    body = "\n".join(_within(failure + _lines(trace), room))
    return block("rollout", body, number=number, status=evaluation.rollout.status, reward=evaluation.score)


def _lines(trace: Sequence[Any]) -> list[str]:
    """One line an entry, those about something that failed before the others."""
    ordered = sorted(trace, key=lambda entry: not (isinstance(entry, Mapping) and entry.get("error")))
    return [json.dumps(entry, ensure_ascii=False, default=str) for entry in ordered]


def _within(lines: list[str], room: int) -> list[str]:
    """The lines, shortened in their middles until they fit; of too many, those in the middle are left out."""
    most = max(room // _LEAST_OF_AN_ENTRY, 2)
    if len(lines) > most:
        first = most // 2
        lines = lines[:first] + lines[len(lines) - (most - first) :]
    cap = _cap([len(line) for line in lines], room - len(lines))
    return [shortened(line, cap) for line in lines]


def _cap(lengths: Sequence[int], room: int) -> int:
    """The greatest length that all can be cut to and fit: the short ones leave their share to the long ones."""
    for place, length in enumerate(sorted(lengths)):
        share = room // (len(lengths) - place)
        if length > share:
            return share
        room -= length
    return max(lengths, default=0)
