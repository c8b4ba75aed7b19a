"""The models that the SDK's users exchange with the store. Nothing here talks to anything."""

from agentlightning.types.dataset import UNSET, Dataset, PaginatedResult, Unset, tasks_of
from agentlightning.types.resources import (
    LLM,
    CustomResource,
    NamedResources,
    PromptTemplate,
    ProxyLLM,
    Resource,
    ResourcesUpdate,
    as_resource,
)
from agentlightning.types.rollout import (
    Attempt,
    AttemptedRollout,
    AttemptStatus,
    EnqueueRolloutRequest,
    Failure,
    FailureKind,
    Rollout,
    RolloutConfig,
    RolloutMode,
    RolloutStatus,
)
from agentlightning.types.run import Run, RunStatus
from agentlightning.types.span import Event, Link, OtelResource, Span, SpanContext, SpanCoreFields, TraceStatus
from agentlightning.types.worker import Worker, WorkerStatus

__all__ = [
    "LLM",
    "UNSET",
    "Attempt",
    "AttemptStatus",
    "AttemptedRollout",
    "CustomResource",
    "Dataset",
    "EnqueueRolloutRequest",
    "Event",
    "Failure",
    "FailureKind",
    "Link",
    "NamedResources",
    "OtelResource",
    "PaginatedResult",
    "PromptTemplate",
    "ProxyLLM",
    "Resource",
    "ResourcesUpdate",
    "Rollout",
    "RolloutConfig",
    "RolloutMode",
    "RolloutStatus",
    "Run",
    "RunStatus",
    "Span",
    "SpanContext",
    "SpanCoreFields",
    "TraceStatus",
    "Unset",
    "Worker",
    "WorkerStatus",
    "as_resource",
    "tasks_of",
]
