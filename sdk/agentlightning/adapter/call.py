"""What a call of a language model is, whoever recorded it: this tracer, another instrumentation, a proxy.

The one place that tells such a span from others and reads it. Knows no adapter.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from agentlightning.adapter import conventions, numbered
from agentlightning.adapter.dialects import in_conventions
from agentlightning.adapter.numbered import JSON
from agentlightning.adapter.tokens import TokenIds, is_of_provider, of_provider, token_ids
from agentlightning.adapter.tree import Tree
from agentlightning.types import Span

_MARKS: Final = (
    *("gen_ai.prompt.", "gen_ai.completion.", "gen_ai.request.", "gen_ai.response."),
    *("gen_ai.input.messages", "gen_ai.output.messages"),
)
_OPERATION: Final = ("gen_ai.operation.name", "gen_ai.request.type", "llm.request.type", "openinference.span.kind")
_ANSWERING: Final = frozenset({"chat", "generate_content", "text_completion", "llm"})
_OTHERS: Final = frozenset(
    {"create_agent", "invoke_agent", "invoke_workflow", "execute_tool"}
    | {"agent", "chain", "tool", "retriever", "reranker", "retrieval", "rerank", "embedding", "embeddings"}
)


@dataclass(frozen=True)
class LLMCall:
    """One call of a language model.

    Attributes:
        span: Where it is recorded.
        tools_called: The attributes of the spans below it that are calls of tools.

    Example:
        >>> from agentlightning import Span
        >>> from agentlightning.adapter import LLMCall
        >>> said = '[{"role": "user", "parts": [{"type": "text", "content": "Which room?"}]}]'
        >>> LLMCall(Span.from_attributes(attributes={"gen_ai.input.messages": said})).messages
        [{'role': 'user', 'content': 'Which room?'}]
    """

    span: Span
    tools_called: Sequence[Mapping[str, Any]] = ()

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """What is recorded of it, on its span or in an event, in the names of the conventions whoever recorded it."""
        merged: dict[str, Any] = {}
        for event in self.span.events:
            if event.name == conventions.DETAILS_EVENT:
                merged |= event.attributes
        return in_conventions(merged | self.span.attributes)

    @cached_property
    def messages(self) -> list[JSON]:
        """What was sent, as OpenAI writes messages."""
        return (
            conventions.prompts(self.attributes)
            or numbered.prompts(self.attributes)
            or conventions.prompts_of_events(self.span.events)
        )

    @cached_property
    def answers(self) -> list[JSON]:
        """What came back, one message for each choice."""
        return (
            conventions.answers(self.attributes)
            or numbered.answers(self.attributes, self.tools_called)
            or conventions.answers_of_events(self.span.events)
        )

    @cached_property
    def tools(self) -> list[JSON]:
        """The tools on offer."""
        return conventions.tools(self.attributes) or numbered.tools(self.attributes)

    @cached_property
    def token_ids(self) -> TokenIds:
        """The token ids of prompt and answer, where the model's server returned them."""
        return token_ids(self.span.attributes)

    @property
    def response_id(self) -> str | None:
        """What the model's server called its answer."""
        own = self.span.attributes.get("gen_ai.response.id") or of_provider(self.span.attributes, "id")
        return None if own is None else str(own)

    @property
    def finish_reasons(self) -> list[Any]:
        """Why each answer ended, as far as that is recorded."""
        told = self.attributes.get("gen_ai.response.finish_reasons")
        if isinstance(told, list):
            return told
        choices = numbered.items(numbered.nested(self.attributes, "gen_ai.completion."))
        return [choice["finish_reason"] for choice in choices if "finish_reason" in choice]

    @property
    def is_answered(self) -> bool:
        """Whether an answer is recorded, in words or in tokens."""
        return bool(self.answers or self.token_ids.response)


def operation_of(span: Span) -> str:
    """What was asked of a model, or done otherwise, as the span names it; empty when it does not."""
    named = (span.attributes.get(name) for name in _OPERATION)
    return str(next(filter(None, named), "")).lower()


def is_llm_call(span: Span) -> bool:
    """Whether a span is a call of a language model; embeddings, agents and tools are none."""
    attributes = span.attributes
    operation = operation_of(span)
    if operation in _OTHERS:
        return False
    return operation in _ANSWERING or any(name.startswith(_MARKS) or is_of_provider(name) for name in attributes)


def llm_calls(spans: Sequence[Span]) -> list[LLMCall]:
    """The calls of language models among spans, in their order."""
    tools: defaultdict[str | None, list[Mapping[str, Any]]] = defaultdict(list)
    for span in spans:
        if "tool.name" in span.attributes:
            tools[span.parent_id].append(span.attributes)
    return [LLMCall(span, tools.get(span.span_id, ())) for span in spans if is_llm_call(span)]


def repeated(calls: Sequence[LLMCall], tree: Tree) -> dict[str, LLMCall]:
    """Which spans record a call that another span records better, and which call that is.

    Two instrumentations of one call name the same response. One that does not name it is told by its place: inside a
    call that was answered, or around one.
    """
    fullest: dict[str, LLMCall] = {}
    of_span = {call.span.span_id: call for call in calls}
    repeats: dict[str, LLMCall] = {}
    for call in calls:
        if name := call.response_id:
            fullest[name] = max(fullest.get(name, call), call, key=_fullness)
    for call in calls:
        around = [of_span[span.span_id] for span in tree.above(call.span) if span.span_id in of_span]
        if call.response_id:
            repeats[call.span.span_id] = fullest[call.response_id]
            repeats |= {outer.span.span_id: call for outer in around if not outer.response_id}
        elif answered := [outer for outer in around if outer.is_answered]:
            repeats.setdefault(call.span.span_id, answered[0])
    return {span_id: call for span_id, call in repeats.items() if call.span.span_id != span_id}


def _fullness(call: LLMCall) -> tuple[int, bool, int]:
    return sum(map(bool, call.token_ids)), call.is_answered, len(call.messages)
