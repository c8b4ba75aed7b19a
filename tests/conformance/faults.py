"""What networks and stores may do to a runner: each a function that `Proxy` is told to apply."""

from collections.abc import Callable, Collection
from typing import Any

from google.protobuf.duration_pb2 import Duration

from tests.conformance.proxy import AnswerLostError, Fault

UNKNOWN_FIELD = b"\xaa\x1f\x04\x0a\x02hi"
"""Field 501 of any message: a message with a text in it."""
UNKNOWN_ENUM = 99
CLAIMS = ("DequeueRollouts", "StreamDequeue")


def assignments_of(answer: Any) -> list[Any]:
    """What an answer to a claim hands out."""
    if hasattr(answer, "assignments"):
        return list(answer.assignments)
    return [answer.assignment] if answer.HasField("assignment") else []


def lease_of(seconds: float) -> Fault:
    """Have everything be leased for so long, which the store tells the runner in each assignment."""
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1e9))

    def shorten(method: str, request: Any) -> list[Any]:
        if method == "DequeueRollouts":
            request.lease_duration.CopyFrom(duration)
        elif method == "StreamDequeue" and request.HasField("open"):
            request.open.lease_duration.CopyFrom(duration)
        return [request]

    return shorten


def lose_one(methods: Collection[str], if_said: Callable[[Any], object] = bool) -> Fault:
    """Lose the first answer to one of the methods of which that is true."""
    is_lost = False

    def lose(method: str, answer: Any) -> list[Any]:
        nonlocal is_lost
        if is_lost or method not in methods or not if_said(answer):
            return [answer]
        is_lost = True
        raise AnswerLostError

    return lose


def twice(method: str, answer: Any) -> list[Any]:
    """Hand out every assignment twice."""
    if method == "DequeueRollouts":
        answer.assignments.MergeFrom(list(answer.assignments))
    is_pushed = method == "StreamDequeue" and answer.HasField("assignment")
    return [answer, answer] if is_pushed else [answer]


def again(assignment: Any) -> Fault:
    """Hand out an assignment again with whatever comes next."""

    def repeat(method: str, answer: Any) -> list[Any]:
        if method == "DequeueRollouts" and answer.assignments:
            answer.assignments.append(assignment)
        is_pushed = method == "StreamDequeue" and answer.HasField("assignment")
        return [type(answer)(assignment=assignment), answer] if is_pushed else [answer]

    return repeat


def never_tells(method: str, answer: Any) -> list[Any]:
    """Keep from the runner that anything was lost: it learns so when it reports."""
    if method == "StreamDequeue" and answer.HasField("lost"):
        return []
    for result in answer.results if method == "HeartbeatAttempts" else ():
        result.held = True
    return [answer]


def not_held(attempt_id: str) -> Fault:
    """Have heartbeats answered as if the attempt was somebody else's."""

    def deny(method: str, answer: Any) -> list[Any]:
        for result in answer.results if method == "HeartbeatAttempts" else ():
            if result.attempt_id == attempt_id:
                result.held = False
                result.ClearField("lease_expire_time")
        return [answer]

    return deny


def from_a_newer_store(method: str, answer: Any) -> list[Any]:
    """Add what a runner cannot know: fields, enum values, and kinds of messages on the stream."""
    before = []
    if method == "StreamDequeue":
        before = [type(answer).FromString(UNKNOWN_FIELD)]
    for assignment in assignments_of(answer) if method in CLAIMS else ():
        assignment.rollout.mode = assignment.rollout.status = UNKNOWN_ENUM
        assignment.attempt.status = UNKNOWN_ENUM
        assignment.rollout.config.retry_condition.append(UNKNOWN_ENUM)
        assignment.rollout.config.retry_policies.add(kind=UNKNOWN_ENUM)
        for part in (assignment, assignment.rollout, assignment.attempt):
            part.MergeFromString(UNKNOWN_FIELD)
    if method == "CompleteAttempt":
        answer.rollout.status = answer.rollout.latest_attempt.status = UNKNOWN_ENUM
    if method == "CompleteAttempts":
        for result in answer.results:
            result.rollout.status = result.rollout.latest_attempt.status = UNKNOWN_ENUM
    if method == "HeartbeatAttempts":
        for result in answer.results:
            result.status = UNKNOWN_ENUM
            result.MergeFromString(UNKNOWN_FIELD)
    if method == "GetResources":
        for resource in answer.resources.resources:
            resource.prompt_template.engine = UNKNOWN_ENUM
        unknown = answer.resources.resources.add(name="of-a-new-kind")
        unknown.MergeFromString(UNKNOWN_FIELD)
    answer.MergeFromString(UNKNOWN_FIELD)
    return [*before, answer]
