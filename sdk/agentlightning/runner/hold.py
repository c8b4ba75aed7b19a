"""A worker's hold on an attempt, and how the agent learns that it is gone. Knows neither store nor agents."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from opentelemetry import context as otel_context

from agentlightning.types import AttemptStatus

_HOLD: Final = otel_context.create_key("agentlightning-hold")


class Hold:
    """A worker's hold on one attempt, until the attempt is lost or its agent is done. Made on the worker's loop.

    Attributes:
        lost: Done when the attempt is no longer the worker's, with its status if that is known.
        is_over: Whether nobody waits for the agent any more.
    """

    def __init__(self) -> None:
        self.lost: asyncio.Future[AttemptStatus | None] = asyncio.get_running_loop().create_future()
        self.is_over = False

    def lose(self, status: AttemptStatus | None) -> None:
        """The attempt is lost. From any thread, and told at once to an agent that blocks the loop."""
        self.is_over = True
        with suppress(RuntimeError):  # The loop has ended, and the attempt with it.
            self.lost.get_loop().call_soon_threadsafe(self._tell, status)

    def end(self) -> None:
        """Nobody waits for the agent any more."""
        self.is_over = True

    @contextmanager
    def current(self) -> Iterator[None]:
        """What is started inside, in tasks and threads, may ask whether it is cancelled."""
        token = otel_context.attach(otel_context.set_value(_HOLD, self))
        try:
            yield
        finally:
            otel_context.detach(token)

    def _tell(self, status: AttemptStatus | None) -> None:
        if not self.lost.done():
            self.lost.set_result(status)


def cancelled() -> bool:
    """Whether nobody waits for the rollout in progress here any more; False outside of any.

    So it is once the attempt is lost, cancelled or out of time, or the runner stops. An async agent is cancelled then.
    A thread cannot be: an agent that computes for long asks now and then, and returns.

        >>> import agentlightning as agl
        >>> def agent(task: list[int]) -> float:
        ...     total = 0
        ...     for number in task:
        ...         if agl.cancelled():
        ...             break
        ...         total += number
        ...     return total
        >>> agent([1, 2])
        3
    """
    hold = otel_context.get_value(_HOLD)
    return isinstance(hold, Hold) and hold.is_over
