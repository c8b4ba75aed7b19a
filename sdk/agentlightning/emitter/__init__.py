"""What an agent records by itself, and how rewards are read back. Knows OpenTelemetry's API, no tracer and no store."""

from agentlightning.emitter.emit import emit_annotation, emit_exception, emit_message, emit_object
from agentlightning.emitter.rewards import (
    Reward,
    emit_reward,
    find_final_reward,
    find_reward_spans,
    get_reward_value,
    get_rewards_from_span,
    is_reward_span,
    reward,
    reward_attributes,
)

__all__ = [
    "Reward",
    "emit_annotation",
    "emit_exception",
    "emit_message",
    "emit_object",
    "emit_reward",
    "find_final_reward",
    "find_reward_spans",
    "get_reward_value",
    "get_rewards_from_span",
    "is_reward_span",
    "reward",
    "reward_attributes",
]
