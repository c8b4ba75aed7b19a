"""From spans to what algorithms learn from. Knows neither stores nor algorithms."""

from agentlightning.adapter.base import Adapter, TraceAdapter
from agentlightning.adapter.call import LLMCall, is_llm_call, llm_calls
from agentlightning.adapter.credit import RewardMatchPolicy
from agentlightning.adapter.explanation import Explanation, LLMCallAdapter
from agentlightning.adapter.messages import OpenAIMessages, TraceToMessages
from agentlightning.adapter.reward import without_judges
from agentlightning.adapter.triplet import LlmProxyTraceToTriplet, TracerTraceToTriplet, TraceToTripletBase, Triplet
from agentlightning.adapter.usage import Usage, distinct_calls, usage_by_model

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
    "Usage",
    "distinct_calls",
    "is_llm_call",
    "llm_calls",
    "usage_by_model",
    "without_judges",
]
