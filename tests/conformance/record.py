"""What a record of calls says about an attempt: when it was given, kept, lost and completed. Pure reading."""

from collections.abc import Iterable, Sequence
from typing import Any

from tests.conformance.faults import CLAIMS, assignments_of
from tests.conformance.proxy import Said

SHOWN = 40
"""How many lines of a record a failure shows."""
WIDTH = 180


def assignments(record: Iterable[Said], rollout_id: str) -> list[tuple[Said, Any]]:
    """When a rollout was handed out, and as what."""
    return [
        (said, assignment)
        for said in record
        if said.by == "store" and said.message is not None and said.method in CLAIMS
        for assignment in assignments_of(said.message)
        if assignment.rollout.rollout_id == rollout_id
    ]


def heartbeats(record: Iterable[Said], attempt_id: str) -> list[Said]:
    """The heartbeats that named an attempt."""
    return [
        said
        for said in _asked(record, "HeartbeatAttempts")
        if any(attempt.attempt_id == attempt_id for attempt in said.message.attempts)
    ]


def completions(record: Iterable[Said], rollout_id: str) -> list[tuple[Said, Any]]:
    """When a rollout's attempts were completed, and how."""
    return [
        (said, completion)
        for said in _asked(record, "CompleteAttempt", "CompleteAttempts")
        for completion in (said.message.attempts if said.method == "CompleteAttempts" else [said.message])
        if completion.rollout_id == rollout_id
    ]


def told_lost(record: Iterable[Said], attempt_id: str) -> Said | None:
    """Where the runner was first told that an attempt is not its own any more."""
    return next((said for said in record if said.by == "store" and _tells_lost(said, attempt_id)), None)


def unheeded_farewells(record: Iterable[Said]) -> list[Said]:
    """Where the store said that it goes, and the runner did not end the stream."""
    said_all = list(record)
    ended = {said.call for said in said_all if said.by == "runner" and said.message is None}
    farewells = [said for said in said_all if said.method == "StreamDequeue" and _says_farewell(said)]
    return [said for said in farewells if said.call not in ended]


def shown(record: Sequence[Said], began: float) -> str:
    """The end of a record, to be read by whoever wrote the runner."""
    lines = [f"{said.at - began:8.3f} s  {said.by:6} {said.method} #{said.call} {_words(said)}" for said in record]
    return "\n".join(line[:WIDTH] for line in lines[-SHOWN:])


def _asked(record: Iterable[Said], *methods: str) -> list[Said]:
    return [said for said in record if said.by == "runner" and said.message is not None and said.method in methods]


def _tells_lost(said: Said, attempt_id: str) -> bool:
    if said.message is None or not said.has_arrived:
        return False
    if said.method == "StreamDequeue":
        return bool(said.message.lost.attempt.attempt_id == attempt_id)
    if said.method == "HeartbeatAttempts":
        return any(result.attempt_id == attempt_id and not result.held for result in said.message.results)
    return False


def _says_farewell(said: Said) -> bool:
    return said.by == "store" and said.message is not None and bool(said.message.HasField("go_away"))


def _words(said: Said) -> str:
    if said.message is None:
        status = said.status.name if said.status else ""
        return "half-closed" if (said.by, status) == ("runner", "OK") else f"ended {status}"
    words = " ".join(str(said.message).split())
    return words if said.has_arrived else f"(lost on the way) {words}"
