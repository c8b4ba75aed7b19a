"""The models that the SDK's users exchange with the store. Nothing here talks to anything."""

from agentlightning.types.dataset import UNSET, Dataset, PaginatedResult, Unset, tasks_of
from agentlightning.types.prompt_template import PromptTemplate
from agentlightning.types.resources import (
    LLM,
    CustomResource,
    NamedResources,
    ProxyLLM,
    Resource,
    ResourcesUpdate,
    as_resource,
)
from agentlightning.types.rollout import (
    Attempt,
    AttemptedRollout,
    AttemptStatus,
    DeletedRollouts,
    EnqueueRolloutRequest,
    Failure,
    FailureKind,
    RetryPolicy,
    Rollout,
    RolloutConfig,
    RolloutMode,
    RolloutStatus,
)
from agentlightning.types.run import Run, RunStatus
from agentlightning.types.span import (
    Event,
    InstrumentationScope,
    Link,
    OtelResource,
    Span,
    SpanContext,
    SpanCoreFields,
    TraceStatus,
)
from agentlightning.types.store import (
    Backup,
    Change,
    Deleted,
    LightningStoreCapabilities,
    LightningStoreStatistics,
)
from agentlightning.types.task import AgentLightningTask, AgentResource
from agentlightning.types.worker import Worker, WorkerStatus

__all__ = [
    "LLM",
    "UNSET",
    "AgentLightningTask",
    "AgentResource",
    "Attempt",
    "AttemptStatus",
    "AttemptedRollout",
    "Backup",
    "Change",
    "CustomResource",
    "Dataset",
    "Deleted",
    "DeletedRollouts",
    "EnqueueRolloutRequest",
    "Event",
    "Failure",
    "FailureKind",
    "InstrumentationScope",
    "LightningStoreCapabilities",
    "LightningStoreStatistics",
    "Link",
    "NamedResources",
    "OtelResource",
    "PaginatedResult",
    "PromptTemplate",
    "ProxyLLM",
    "Resource",
    "ResourcesUpdate",
    "RetryPolicy",
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
