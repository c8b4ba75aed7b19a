"""What a reader wants to know of a span, whoever recorded it, as JSON. Knows no terminal and no store."""

from collections.abc import Mapping
from typing import Any

from agentlightning.adapter import LLMCall
from agentlightning.emitter import get_message_value, get_object_value, get_rewards_from_span
from agentlightning.semconv import (
    EXCEPTION_SPAN,
    OBJECT_TYPE,
    OPERATION_INPUT,
    OPERATION_NAME,
    OPERATION_OUTPUT,
    PROCESS_STDERR,
    PROCESS_STDOUT,
)
from agentlightning.types import Span

Facts = dict[str, Any]

_PROMPT_TOKENS = ("gen_ai.usage.prompt_tokens", "gen_ai.usage.input_tokens")
_COMPLETION_TOKENS = ("gen_ai.usage.completion_tokens", "gen_ai.usage.output_tokens")
_TOLD_OTHERWISE = ("agentlightning.", "exception.", "gen_ai.", "tool.")
_TOOL_NAMES = ("tool.name", "gen_ai.tool.name")
_TOOL_ARGUMENTS = ("tool.parameters", "gen_ai.tool.call.arguments")


def facts_of(span: Span, call: LLMCall | None, begun: float, better: LLMCall | None = None) -> Facts:
    """A span in short; what it does not have is left out.

    Args:
        span: The span.
        call: The call of a model that it is. None: it is none.
        begun: When the first span of the attempt began, in Unix seconds.
        better: The same call, where another span records it better. None: none does.
    """
    start, end = span.start_time, span.end_time
    told = {
        "sequence_id": span.sequence_id,
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "name": span.name,
        "start_seconds": None if start is None else start - begun,
        "duration_seconds": None if start is None or end is None else max(0.0, end - start),
        "error": _error(span),
        **({"same_call_as": better.span.sequence_id} if better else _call(call) if call else {}),
        "tool": _tool(span.attributes),
        "rewards": {reward.name: reward.value for reward in get_rewards_from_span(span)},
        "exceptions": _exceptions(span),
        "operation": span.attributes.get(OPERATION_NAME),
        "input": _below(span.attributes, OPERATION_INPUT),
        "output": _below(span.attributes, OPERATION_OUTPUT),
        "stdout": span.attributes.get(PROCESS_STDOUT),
        "stderr": span.attributes.get(PROCESS_STDERR),
        "message": get_message_value(span),
        "attributes": {} if call else _others(span.attributes),
        "object": get_object_value(span) if OBJECT_TYPE in span.attributes else None,
    }
    return {name: value for name, value in told.items() if value is not None and value != {} and value != []}


def _error(span: Span) -> str | None:
    """What its status says, if that is an error."""
    if span.status.status_code != "ERROR":
        return None
    return span.status.description or "error"


def _call(call: LLMCall) -> Facts:
    attributes = call.attributes
    return {
        "model": _first(attributes, ("gen_ai.response.model", "gen_ai.request.model")) or "?",
        "prompt_tokens": _count(_first(attributes, _PROMPT_TOKENS)),
        "completion_tokens": _count(_first(attributes, _COMPLETION_TOKENS)),
        "messages": call.messages,
        "answers": call.answers,
    }


def _tool(attributes: Mapping[str, Any]) -> Facts | None:
    name = _first(attributes, _TOOL_NAMES)
    return None if name is None else {"name": name, "arguments": _first(attributes, _TOOL_ARGUMENTS) or ""}


def _exceptions(span: Span) -> list[Facts]:
    """Those it recorded as events, and the one that it is."""
    told = [event.attributes for event in span.events if event.name == "exception"]
    if span.name == EXCEPTION_SPAN:
        told.append(span.attributes)
    return [
        {
            "type": str(attributes.get("exception.type", "")),
            "message": str(attributes.get("exception.message", "")),
            "stack_trace": str(attributes.get("exception.stacktrace", "")),
        }
        for attributes in told
    ]


def _others(attributes: Mapping[str, Any]) -> Facts:
    """What a span says that has no meaning here: an annotation's values, another instrumentation's notes."""
    return {name: value for name, value in attributes.items() if not name.startswith(_TOLD_OTHERWISE)}


def _below(attributes: Mapping[str, Any], prefix: str) -> Any:
    """What stands under a name: one value, or several by the rest of their names."""
    if prefix in attributes:
        return attributes[prefix]
    return {name[len(prefix) + 1 :]: value for name, value in attributes.items() if name.startswith(f"{prefix}.")}


def _first(attributes: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((attributes[name] for name in names if name in attributes), None)


def _count(value: Any) -> int | None:
    """A count, None where something else stands in its place."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None
