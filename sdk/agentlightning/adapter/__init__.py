"""From spans to what algorithms learn from. Knows neither stores nor algorithms."""

from agentlightning.adapter.base import Adapter, TraceAdapter
from agentlightning.adapter.messages import OpenAIMessages, TraceToMessages

__all__ = ["Adapter", "OpenAIMessages", "TraceAdapter", "TraceToMessages"]
