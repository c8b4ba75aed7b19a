"""What an agent records by itself, and how it is read back. Knows OpenTelemetry's API, no tracer and no store."""

from agentlightning.emitter.emit import (
    emit_annotation,
    emit_exception,
    emit_message,
    emit_object,
    get_message_value,
    get_object_value,
)
from agentlightning.emitter.links import (
    LinkMatch,
    extract_links_from_attributes,
    extract_tags_from_attributes,
    make_link_attributes,
    make_tag_attributes,
    query_linked_spans,
)
from agentlightning.emitter.operations import Operation, operation
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
    "LinkMatch",
    "Operation",
    "Reward",
    "emit_annotation",
    "emit_exception",
    "emit_message",
    "emit_object",
    "emit_reward",
    "extract_links_from_attributes",
    "extract_tags_from_attributes",
    "find_final_reward",
    "find_reward_spans",
    "get_message_value",
    "get_object_value",
    "get_reward_value",
    "get_rewards_from_span",
    "is_reward_span",
    "make_link_attributes",
    "make_tag_attributes",
    "operation",
    "query_linked_spans",
    "reward",
    "reward_attributes",
]
