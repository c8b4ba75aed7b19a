"""From spans to what algorithms learn from. Knows neither stores nor algorithms."""

from agentlightning.adapter.base import Adapter, TraceAdapter
from agentlightning.adapter.credit import RewardMatchPolicy
from agentlightning.adapter.explanation import Explanation, LLMCallAdapter
from agentlightning.adapter.messages import OpenAIMessages, TraceToMessages
from agentlightning.adapter.triplet import LlmProxyTraceToTriplet, TracerTraceToTriplet, TraceToTripletBase, Triplet

__all__ = [
    "Adapter",
    "Explanation",
    "LLMCallAdapter",
    "LlmProxyTraceToTriplet",
    "OpenAIMessages",
    "RewardMatchPolicy",
    "TraceAdapter",
    "TraceToMessages",
    "TraceToTripletBase",
    "TracerTraceToTriplet",
    "Triplet",
]
