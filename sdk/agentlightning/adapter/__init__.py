"""From spans to what algorithms learn from. Knows neither stores nor algorithms."""

from agentlightning.adapter.base import Adapter, TraceAdapter
from agentlightning.adapter.explanation import Explanation, LLMCallAdapter
from agentlightning.adapter.messages import OpenAIMessages, TraceToMessages

__all__ = ["Adapter", "Explanation", "LLMCallAdapter", "OpenAIMessages", "TraceAdapter", "TraceToMessages"]
