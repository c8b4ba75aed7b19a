"""What users have done around the rollouts of a runner. Knows neither the store nor when each is called."""

import inspect
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agentlightning.errors import AgentError
from agentlightning.litagent import LitAgent
from agentlightning.tracer import Tracer
from agentlightning.types import AttemptedRollout, Span

if TYPE_CHECKING:
    from agentlightning.runner.runner import LitAgentRunner

_log = logging.getLogger(__name__)


class Hook:
    """What to do around every rollout of a runner; subclasses override what they need.

    The methods are called in the order they stand here, those of several hooks in the order the hooks are given, and
    the `_end` ones also when the rollout fails, is lost or is stopped. They are given their arguments by name, and may
    be `async def` or plain; either runs on the runner's loop, which it is not to block. What they raise is logged and
    changes nothing.

        >>> import agentlightning as agl
        >>> class Counting(agl.Hook):
        ...     spans = 0
        ...     async def on_rollout_end(self, *, agent, runner, rollout, spans):
        ...         self.spans += len(spans)
    """

    async def on_rollout_start(
        self, *, agent: LitAgent[Any], runner: "LitAgentRunner[Any]", rollout: AttemptedRollout
    ) -> None:
        """A rollout was taken from the queue, or is a step."""

    async def on_trace_start(
        self, *, agent: LitAgent[Any], runner: "LitAgentRunner[Any]", tracer: Tracer, rollout: AttemptedRollout
    ) -> None:
        """Its trace has begun: what is emitted here belongs to the rollout."""

    async def on_trace_end(
        self, *, agent: LitAgent[Any], runner: "LitAgentRunner[Any]", tracer: Tracer, rollout: AttemptedRollout
    ) -> None:
        """The agent is done. A reward that is emitted here comes before the one that the agent returned."""

    async def on_rollout_end(
        self, *, agent: LitAgent[Any], runner: "LitAgentRunner[Any]", rollout: AttemptedRollout, spans: Sequence[Span]
    ) -> None:
        """The trace has ended, with these spans; the store is told of the outcome next."""


def as_hooks(hooks: Hook | Sequence[Hook] | None) -> tuple[Hook, ...]:
    """Take what users give for hooks: one, several or none.

    Raises:
        AgentError: When one of them is no `Hook`.
    """
    if isinstance(hooks, Hook):
        return (hooks,)
    for index, hook in enumerate(hooks or ()):
        if not isinstance(hook, Hook):
            raise AgentError(f"hooks[{index}] is {hook!r}, expected an instance of a class derived from agl.Hook")
    return tuple(hooks or ())


class Hooks:
    """The hooks of a runner, called one after the other."""

    def __init__(self, hooks: Sequence[Hook], agent: LitAgent[Any], runner: "LitAgentRunner[Any]") -> None:
        self._hooks = hooks
        self._given = {"agent": agent, "runner": runner}

    async def call(self, name: str, **arguments: Any) -> None:
        """Call a method of each."""
        for hook in self._hooks:
            try:
                result = getattr(hook, name)(**self._given, **arguments)
                if inspect.isawaitable(result):
                    await result
            except (Exception, SystemExit):
                _log.exception("Exception during %s hook", name)
