"""What is instrumented while any worker runs in this process. Knows the instrumentations, not what they record."""

import threading
from collections.abc import Callable, Iterable
from functools import partial

from agentlightning.tracer.instrumentors import enable
from agentlightning.tracer.litellm import instrument_litellm
from agentlightning.tracer.openai import instrument_openai
from agentlightning.tracer.provider import own_provider
from agentlightning.tracer.threads import carry_context


class _Shared:
    """Something that is put into the process for the first who wants it, and taken out with the last."""

    def __init__(self, install: Callable[[], list[Callable[[], None]]]) -> None:
        self._install = install
        self._users = 0
        self._restore: list[Callable[[], None]] = []

    def enter(self) -> None:
        if not self._users:
            self._restore.extend(self._install())
        self._users += 1

    def leave(self) -> None:
        self._users -= 1
        while not self._users and self._restore:
            self._restore.pop()()


_lock = threading.Lock()
_own = _Shared(lambda: [*carry_context(), *instrument_openai(), *instrument_litellm()])
_others: dict[str, _Shared] = {}


def instrument(instrumentors: Iterable[str] = ()) -> None:
    """Instrument the process, with other people's instrumentors too, unless it is already."""
    with _lock:
        _own.enter()  # first, so that it sees a package's own objects and not what others wrap them in
        for name in instrumentors:
            _others.setdefault(name, _Shared(partial(enable, name, own_provider()))).enter()


def uninstrument(instrumentors: Iterable[str] = ()) -> None:
    """Undo it when the last who wanted it no longer does."""
    with _lock:
        for name in instrumentors:
            _others[name].leave()
        _own.leave()
