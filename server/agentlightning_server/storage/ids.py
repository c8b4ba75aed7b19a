"""Ids of rollouts and attempts: random, but beside each other in every index when they are made at about the same time.

What is worked on is then on a few pages, however much is stored: with ids that are random throughout, each span of a
rollout would land on a page of its own that has to be read, logged and written back.
"""

import secrets

from agentlightning_server.clock import SECOND

_NEIGHBOURHOOD = 16 * SECOND
_TIME_DIGITS = 4  # comes round after twelve days: it orders ids, and need not tell them apart


def new_id(prefix: str, digits: int, now: int) -> str:
    """An id of so many hex digits after the prefix.

    Args:
        prefix: What it is an id of, with the dash.
        digits: How many; all but the first four are random.
        now: The time in microseconds.
    """
    neighbourhood = now // _NEIGHBOURHOOD % 16**_TIME_DIGITS
    return f"{prefix}{neighbourhood:0{_TIME_DIGITS}x}{secrets.token_hex((digits - _TIME_DIGITS) // 2)}"
