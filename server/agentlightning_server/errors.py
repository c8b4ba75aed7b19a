"""What the server refuses, with the reason the protocol has for it. Knows no gRPC: `rpc` translates."""

from agentlightning.v1.error_reason_pb2 import ErrorReason


class StoreError(Exception):
    """A call is refused, for a reason of the protocol.

    Attributes:
        reason: The protocol's reason.
        metadata: What it is about; everything dynamic in the message.
    """

    def __init__(self, reason: ErrorReason.ValueType, message: str, **metadata: object) -> None:
        super().__init__(message)
        self.reason = reason
        self.metadata = {key: str(value) for key, value in metadata.items()}

    @property
    def reason_name(self) -> str:
        """The reason as the wire says it, without the prefix of its enum."""
        return ErrorReason.Name(self.reason).removeprefix("ERROR_REASON_")


class FieldInvalidError(StoreError):
    """A field has a value it cannot have."""

    def __init__(self, field: str, value: object, expected: str) -> None:
        shown = _shortened(str(value))
        super().__init__(
            ErrorReason.ERROR_REASON_FIELD_INVALID,
            f"{field} is {shown!r}, expected {expected}",
            field=field,
            value=shown,
            expected=expected,
        )


class TooLargeError(StoreError):
    """More in one request than is allowed."""

    def __init__(self, field: str, count: int, limit: int) -> None:
        super().__init__(
            ErrorReason.ERROR_REASON_REQUEST_TOO_LARGE,
            f"{field} has {count} entries, at most {limit} are allowed: send fewer at a time",
            field=field,
            limit=limit,
        )


def rollout_not_found(rollout_id: str) -> StoreError:
    """There is no such rollout."""
    return StoreError(
        ErrorReason.ERROR_REASON_ROLLOUT_NOT_FOUND, f"Rollout {rollout_id} not found", rollout_id=rollout_id
    )


def no_attempts(rollout_id: str) -> StoreError:
    """The rollout has no attempts yet, so not the one that was named either."""
    return StoreError(
        ErrorReason.ERROR_REASON_ATTEMPT_NOT_FOUND, f"No attempts found for rollout {rollout_id}", rollout_id=rollout_id
    )


def attempt_not_found(rollout_id: str, attempt_id: str) -> StoreError:
    """There is no such attempt of this rollout."""
    return StoreError(
        ErrorReason.ERROR_REASON_ATTEMPT_NOT_FOUND,
        f"Attempt {attempt_id} not found for rollout {rollout_id}",
        rollout_id=rollout_id,
        attempt_id=attempt_id,
    )


def revision_out_of_range(after: int, oldest: int, revision: int) -> StoreError:
    """The store cannot go on from a revision."""
    why = "not reached" if after > revision else "older than what is remembered of deletions"
    return StoreError(
        ErrorReason.ERROR_REASON_REVISION_OUT_OF_RANGE,
        f"after_revision is {after}, {why}, expected {oldest} to {revision}: list again and go on from there",
        after_revision=after,
        oldest_revision=oldest,
        revision=revision,
    )


def unavailable(cause: str) -> StoreError:
    """The disk does not take the write, or the server is going away."""
    message = f"the store cannot write now: {cause}; nothing changed"
    return StoreError(ErrorReason.ERROR_REASON_STORAGE_UNAVAILABLE, message, cause=cause)


def draining() -> StoreError:
    """The server drains before it stops."""
    return StoreError(ErrorReason.ERROR_REASON_SERVER_DRAINING, "the server is going away: try again")


def _shortened(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else text[:limit] + "..."
