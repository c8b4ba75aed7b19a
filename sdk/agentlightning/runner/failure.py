"""Why an attempt did not succeed, told from the exception that ended it. Knows exceptions alone."""

import asyncio
import traceback
from typing import Final

from agentlightning.emitter.emit import qualified_name
from agentlightning.errors import AgentError, AttemptTimeoutError
from agentlightning.types import Failure, FailureKind

_INFRASTRUCTURE: Final = frozenset(
    {
        "ConnectionError",
        "TimeoutError",
        "httpx.TransportError",
        "httpx2.TransportError",
        "agentlightning.errors.StoreError",
        "openai.APIConnectionError",
        "openai.InternalServerError",
        "openai.RateLimitError",
    }
)
_LONGEST: Final = 16_000


class AttemptFailed(AgentError):
    """The end of an agent that knows itself who is to blame, as a process does by its exit code.

    Attributes:
        failure: The failure of its attempt.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def failure_of(error: BaseException) -> Failure:
    """The failure of an attempt that an exception ended; the end of a long stack trace is kept."""
    if isinstance(error, AttemptFailed):
        return error.failure
    if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt)):
        return Failure(kind="infrastructure", type="RunnerStopped", message="the runner was stopped during the attempt")
    return Failure(
        kind=failure_kind(error),
        type=qualified_name(type(error)),
        message=str(error)[:_LONGEST],
        stack_trace="".join(traceback.format_exception(error))[-_LONGEST:],
    )


def failure_kind(error: BaseException) -> FailureKind:
    """Who is to blame for an exception.

    The network and the model's server are infrastructure, which says nothing about the agent: the rollout is delivered
    again. Their classes are known by name, so that no client needs to be installed. Everything else is the agent's.
    """
    if isinstance(error, AttemptTimeoutError):
        return "timeout"
    names = {qualified_name(cls) for cls in type(error).__mro__}
    return "infrastructure" if names & _INFRASTRUCTURE else "agent"
