"""Repeats: a creating or claiming call with a known request id is answered as it was the first time."""

import hashlib
from collections.abc import Callable
from typing import TypeVar

from agentlightning.v1.error_reason_pb2 import ErrorReason
from google.protobuf.message import Message

from agentlightning_server.clock import SECOND
from agentlightning_server.errors import StoreError
from agentlightning_server.storage.transaction import Transaction

M = TypeVar("M", bound=Message)

_KEPT = 24 * 3600 * SECOND


def answer_once(
    tx: Transaction, request_id: str, request: Message, answer_type: type[M], operation: Callable[[Transaction], M]
) -> M:
    """The operation's answer, or the one it gave to the first request of this id.

    Raises:
        StoreError: The request id belongs to another request.
    """
    if (known := recall(tx, request_id, request, answer_type)) is not None:
        return known
    answer = operation(tx)
    remember(tx, request_id, request, answer)
    return answer


def recall(tx: Transaction, request_id: str, request: Message, answer_type: type[M]) -> M | None:
    """What a request of this id was answered; None for a first one, and without an id.

    Raises:
        StoreError: The request id belongs to another request.
    """
    known = tx.one("request", request_id=request_id, now=tx.now) if request_id else None
    if known is None:
        return None
    if known["digest"] != _digest(request):
        raise StoreError(
            ErrorReason.ERROR_REASON_REQUEST_ID_REUSED,
            f"request_id {request_id!r} was used for another request: choose a new one",
            request_id=request_id,
        )
    return answer_type.FromString(known["answer"])


def remember(tx: Transaction, request_id: str, request: Message, answer: Message) -> None:
    """Keep an answer for 24 hours; without an id there is nothing to keep it by."""
    if request_id:
        tx.run(
            "put_request",
            request_id=request_id,
            digest=_digest(request),
            answer=answer.SerializeToString(),
            expire_time=tx.now + _KEPT,
        )


def forget(tx: Transaction) -> int:
    """Drop some of the answers whose time is over, and say how many."""
    return tx.run("forget_requests", now=tx.now)


def _digest(request: Message) -> bytes:
    name = request.DESCRIPTOR.full_name.encode()
    return hashlib.sha256(name + b"\0" + request.SerializeToString(deterministic=True)).digest()
