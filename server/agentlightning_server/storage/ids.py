"""Ids of rollouts and attempts: nobody guesses one, and in every index they stand in the order of their making.

What is worked on is then on a few pages, however much is stored: with ids that are random throughout, each rollout and
each span of it would land on pages of its own, which have to be read, logged and written back.
"""

import secrets

from agentlightning_server.clock import SECOND

_NEIGHBOURHOOD = 16 * SECOND
_PLACES = 16**4


def new_id(prefix: str, digits: int, now: int, revision: int) -> str:
    """An id of so many hex digits after the prefix.

    Args:
        prefix: What it is an id of, with the dash.
        digits: How many: four for the time, four for the revision, and the others random.
        now: The time in microseconds. Its digits come round after twelve days: they order, and need not tell apart.
        revision: The last one, which orders what is made at the same time.
    """
    neighbourhood = now // _NEIGHBOURHOOD % _PLACES
    return f"{prefix}{neighbourhood:04x}{revision % _PLACES:04x}{secrets.token_hex(digits // 2 - 4)}"
