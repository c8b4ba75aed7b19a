"""Agent Lightning: run an agent, record what it did, change what it is given. `import agentlightning as agl`.

Public names are loaded on first use, so that importing this costs nothing that the program does not need.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentlightning_algorithms.apo import APO
    from agentlightning_algorithms.baseline import Baseline

    from agentlightning.adapter import Adapter, TraceAdapter, TraceToMessages
    from agentlightning.algorithm import Algorithm, algo
    from agentlightning.emitter import (
        emit_annotation,
        emit_exception,
        emit_message,
        emit_object,
        emit_reward,
        find_final_reward,
        find_reward_spans,
        get_reward_value,
        is_reward_span,
    )
    from agentlightning.errors import *  # noqa: F403
    from agentlightning.litagent import LitAgent, llm_rollout, prompt_rollout, rollout
    from agentlightning.runner import LitAgentRunner
    from agentlightning.store import LightningStore, LightningStoreClient
    from agentlightning.tracer import AgentOpsTracer, OtelTracer, Tracer
    from agentlightning.trainer import Trainer, TrainResult
    from agentlightning.types import *  # noqa: F403

_HOMES = {
    "agentlightning.adapter": ("Adapter", "TraceAdapter", "TraceToMessages"),
    "agentlightning.algorithm": ("Algorithm", "algo"),
    "agentlightning.emitter": (
        "emit_annotation",
        "emit_exception",
        "emit_message",
        "emit_object",
        "emit_reward",
        "find_final_reward",
        "find_reward_spans",
        "get_reward_value",
        "is_reward_span",
    ),
    "agentlightning.errors": (
        "AgentCheckError",
        "AgentError",
        "AgentLightningError",
        "AlgorithmError",
        "AttemptLostError",
        "ConflictError",
        "InvalidRequestError",
        "MissingResourceError",
        "NotFoundError",
        "PromptTemplateError",
        "StoreError",
        "StoreUnavailableError",
        "UnsupportedError",
    ),
    "agentlightning.litagent": ("LitAgent", "llm_rollout", "prompt_rollout", "rollout"),
    "agentlightning.runner": ("LitAgentRunner",),
    "agentlightning.store": ("LightningStore", "LightningStoreClient"),
    "agentlightning.tracer": ("AgentOpsTracer", "OtelTracer", "Tracer"),
    "agentlightning.trainer": ("TrainResult", "Trainer"),
    "agentlightning.types": (
        "LLM",
        "UNSET",
        "Attempt",
        "AttemptStatus",
        "AttemptedRollout",
        "CustomResource",
        "Dataset",
        "EnqueueRolloutRequest",
        "Failure",
        "NamedResources",
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
        "Span",
        "SpanCoreFields",
        "Worker",
    ),
    "agentlightning_algorithms.apo": ("APO",),
    "agentlightning_algorithms.baseline": ("Baseline",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    try:
        home = _HOME_OF[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
