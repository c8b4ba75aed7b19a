"""From spans to what algorithms learn from. Knows neither stores nor algorithms."""

from agentlightning.adapter.base import Adapter, TraceAdapter
from agentlightning.adapter.call import LLMCall, is_llm_call, llm_calls
from agentlightning.adapter.credit import RewardMatchPolicy
from agentlightning.adapter.explanation import Explanation, LLMCallAdapter
from agentlightning.adapter.messages import OpenAIMessages, TraceToMessages
from agentlightning.adapter.triplet import LlmProxyTraceToTriplet, TracerTraceToTriplet, TraceToTripletBase, Triplet

__all__ = [
    "Adapter",
    "Explanation",
    "LLMCall",
    "LLMCallAdapter",
    "LlmProxyTraceToTriplet",
    "OpenAIMessages",
    "RewardMatchPolicy",
    "TraceAdapter",
    "TraceToMessages",
    "TraceToTripletBase",
    "TracerTraceToTriplet",
    "Triplet",
    "is_llm_call",
    "llm_calls",
]
