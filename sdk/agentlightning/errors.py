"""What can go wrong, as exceptions, by what the caller can do about it. Knows gRPC's codes but no client or server.

AgentLightningError
+-- StoreError                  a call to the store was refused or failed
|   +-- InvalidRequestError     mend the request
|   +-- NotFoundError           no such rollout, attempt, resources, run or worker
|   +-- AttemptLostError        the attempt is no longer the caller's: abandon it
|   +-- ConflictError           somebody changed it meanwhile: read again and decide again
|   +-- StoreUnavailableError   try again: nothing is known to have changed
|   +-- UnsupportedError        this server does not serve the call
+-- AgentError                  the agent, its signature or what it returned
|   +-- MissingResourceError    the agent asks for a resource that the rollout does not have
|   +-- AgentCheckError         the first rollout of a fit did not succeed
+-- InstrumentationError        an instrumentor is not installed
+-- PromptTemplateError         a template cannot be rendered, read or written
+-- AlgorithmError              an algorithm cannot start or go on
+-- EmptyTrainingDataError      the spans of a rollout hold nothing to learn from
"""

from collections.abc import Mapping


class AgentLightningError(Exception):
    """The root of all exceptions raised by this package."""


class StoreError(AgentLightningError):
    """A call to the store was refused or failed.

    Attributes:
        code: gRPC's name of the status code, for example `NOT_FOUND`.
        reason: The `ErrorReason` without its prefix, empty when the server gave none.
        metadata: What the reason is about: ids, field, value.
    """

    def __init__(
        self, message: str, *, code: str = "UNKNOWN", reason: str = "", metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.metadata = dict(metadata or {})


class InvalidRequestError(StoreError, ValueError):
    """The request has a value it cannot have."""


class NotFoundError(StoreError, ValueError):
    """There is no such rollout, attempt, resources, run or worker."""


class AttemptLostError(StoreError):
    """The attempt has ended or was superseded: whoever holds it should abandon it."""


class ConflictError(StoreError):
    """Somebody changed the object meanwhile."""


class StoreUnavailableError(StoreError, ConnectionError):
    """The store cannot be reached or cannot take the call now."""


class UnsupportedError(StoreError, NotImplementedError):
    """The server does not serve the call."""


class AgentError(AgentLightningError):
    """The agent, its signature or what it returned cannot be used."""


class MissingResourceError(AgentError, LookupError):
    """The agent asks for a resource that the rollout does not have."""


class AttemptTimeoutError(AgentError, TimeoutError):
    """The agent took longer than its rollout allows."""


class AgentCheckError(AgentError):
    """The first rollout of a fit did not succeed, so no other was spent."""


class InstrumentationError(AgentLightningError, ValueError):
    """An instrumentor that a tracer is to enable is not installed."""


class PromptTemplateError(AgentLightningError, ValueError):
    """A prompt template cannot be rendered, read or written."""


class AlgorithmError(AgentLightningError):
    """An algorithm cannot start or go on."""


class EmptyTrainingDataError(AgentLightningError, ValueError):
    """The spans of a rollout hold nothing to learn from; the message says why, call by call."""
