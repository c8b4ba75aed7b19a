"""How much goes into one message of a stream or a list. Knows no message in particular."""

from collections.abc import Iterable
from typing import TypeVar

from google.protobuf.message import Message

M = TypeVar("M", bound=Message)

MAX_BYTES = 2 << 20
_MAX_COUNT = 500  # so that a read is short and nobody waits long for it
_FRAME_BYTES = 8  # of tag and length, and its share of what else the message says


def fitting(messages: Iterable[M]) -> list[M]:
    """The first of the messages that go into one together; one that is too large for any goes alone."""
    taken: list[M] = []
    size = 0
    for message in messages:
        size += message.ByteSize() + _FRAME_BYTES
        if taken and size > MAX_BYTES:
            break
        taken.append(message)
        if len(taken) == _MAX_COUNT:
            break
    return taken
