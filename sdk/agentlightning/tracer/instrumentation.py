"""What is instrumented while any worker runs in this process. Knows the instrumentations, not what they record."""

import threading
from collections.abc import Callable

from agentlightning.tracer.openai import instrument_openai
from agentlightning.tracer.threads import carry_context

_lock = threading.Lock()
_users = 0
_restore: list[Callable[[], None]] = []


def instrument() -> None:
    """Instrument the process, unless it is already."""
    global _users
    with _lock:
        if not _users:
            _restore.extend([*carry_context(), *instrument_openai()])
        _users += 1


def uninstrument() -> None:
    """Undo it when the last who wanted it no longer does."""
    global _users
    with _lock:
        _users -= 1
        while not _users and _restore:
            _restore.pop()()
