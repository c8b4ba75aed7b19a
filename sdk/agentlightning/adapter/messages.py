"""The conversations of a rollout, as OpenAI writes messages. Knows calls of models, not who recorded them."""

from collections.abc import Sequence
from typing import TypedDict

from agentlightning.adapter.call import LLMCall, llm_calls, repeated
from agentlightning.adapter.explanation import Explanation, LLMCallAdapter
from agentlightning.adapter.numbered import JSON
from agentlightning.adapter.tree import Tree
from agentlightning.types import Span


class OpenAIMessages(TypedDict):
    """One call of a model: the conversation with its answer last, and the tools on offer."""

    messages: list[JSON]
    tools: list[JSON] | None


class TraceToMessages(LLMCallAdapter[OpenAIMessages]):
    """The conversation of each call of a model, in the order of the spans. Parts that it does not know are kept.

    Example:
        >>> from agentlightning import Span, TraceToMessages
        >>> call = Span.from_attributes(
        ...     attributes={"gen_ai.prompt.0.content": "Which room?", "gen_ai.completion.0.content": "A103"}
        ... )
        >>> TraceToMessages().adapt([call])[0]["messages"]
        [{'content': 'Which room?', 'role': 'user'}, {'content': 'A103', 'role': 'assistant'}]
    """

    def explain(self, spans: Sequence[Span], /) -> list[Explanation[OpenAIMessages]]:
        """Say of each call of a model whether it is a conversation; one that failed is, without an answer."""
        calls = llm_calls(spans)
        repeats = repeated(calls, Tree(spans))
        return [_explanation(call, repeats.get(call.span.span_id)) for call in calls]


def _explanation(call: LLMCall, better: LLMCall | None) -> Explanation[OpenAIMessages]:
    if better is not None:
        return Explanation(call.span, f"#{better.span.sequence_id} records the same call")
    messages = [*call.messages, *call.answers[:1]]
    if not messages:
        return Explanation(call.span, "no messages were recorded; does the instrumentation capture content?")
    count = "1 message" if len(messages) == 1 else f"{len(messages)} messages"
    reason = count if call.answers else f"{count}, no answer"
    return Explanation(call.span, reason, {"messages": messages, "tools": call.tools or None})
