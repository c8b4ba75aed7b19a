"""The conversations of a rollout, as OpenAI writes messages. Knows attributes of LLM spans, not who recorded them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict

from agentlightning.adapter.base import TraceAdapter
from agentlightning.types import Span

JSON = dict[str, Any]

_LLM_PREFIXES: Final = ("gen_ai.prompt.", "gen_ai.completion.", "gen_ai.request.", "gen_ai.response.")
_OF_CHOICE: Final = frozenset({"finish_reason", "content_filter_results", "index"})


class OpenAIMessages(TypedDict):
    """One call of a model: the conversation with its answer last, and the tools on offer."""

    messages: list[JSON]
    tools: list[JSON] | None


class TraceToMessages(TraceAdapter[list[OpenAIMessages]]):
    """The conversation of each call of a model, in the order of the spans."""

    def adapt(self, spans: Sequence[Span], /) -> list[OpenAIMessages]:
        """One entry for each span of a model's call; spans of other kinds give none."""
        return [_conversation(span, spans) for span in spans if _is_llm_call(span)]


def _is_llm_call(span: Span) -> bool:
    return any(key.startswith(_LLM_PREFIXES) for key in span.attributes)


def _conversation(span: Span, spans: Sequence[Span]) -> OpenAIMessages:
    prompts = _items(_nested(span.attributes, "gen_ai.prompt."))
    choices = _items(_nested(span.attributes, "gen_ai.completion."))
    functions = _items(_nested(span.attributes, "gen_ai.request.functions."))
    answer = [_answer(choices[0], span, spans)] if choices else []
    messages = [_message(prompt, "user") for prompt in prompts] + answer
    return {"messages": messages, "tools": [_tool(function) for function in functions] or None}


def _answer(choice: JSON, span: Span, spans: Sequence[Span]) -> JSON:
    message = {key: value for key, value in choice.items() if key not in _OF_CHOICE}
    # Other instrumentations record the calls of tools as child spans alone.
    children = [child for child in spans if child.parent_id == span.span_id and "tool.name" in child.attributes]
    if children and "tool_calls" not in message:
        message["tool_calls"] = {str(index): _called(child.attributes) for index, child in enumerate(children)}
    return _message(message, "assistant")


def _message(recorded: JSON, role: str) -> JSON:
    calls = [_tool_call(call) for call in _items(recorded.get("tool_calls"))]
    content = recorded.get("content", None if calls else "")
    message = {**recorded, "role": recorded.get("role", role), "content": _content(content)}
    message.pop("tool_calls", None)
    return {**message, "tool_calls": calls} if calls else message


def _called(attributes: Mapping[str, Any]) -> JSON:
    return {
        "id": attributes.get("tool.call.id", ""),
        "type": attributes.get("tool.call.type", "function"),
        "name": attributes["tool.name"],
        "arguments": attributes.get("tool.parameters", "{}"),
    }


def _tool_call(recorded: JSON) -> JSON:
    kind = recorded.get("type", "function")
    text = "arguments" if kind == "function" else "input"
    body = {"name": recorded.get("name", ""), text: recorded.get("arguments", "")}
    return {"id": recorded.get("id", ""), "type": kind, kind: body}


def _tool(recorded: JSON) -> JSON:
    kind = recorded.get("type", "function")
    body = {key: value for key, value in recorded.items() if key != "type"}
    if "parameters" in body:
        body["parameters"] = _decoded(body["parameters"])
    return {"type": kind, kind: body}


def _content(content: Any) -> Any:
    """The content as it was sent: parts are recorded as JSON, text as it is."""
    parts = _decoded(content) if isinstance(content, str) and content.startswith("[{") else None
    if isinstance(parts, list) and all(isinstance(part, dict) and "type" in part for part in parts):
        return parts
    return content


def _decoded(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return text


def _nested(attributes: Mapping[str, Any], prefix: str) -> JSON:
    """What dotted names under a prefix stand for: `{"0": {"role": "user"}}` for `<prefix>0.role`."""
    root: JSON = {}
    for name, value in attributes.items():
        if name.startswith(prefix):
            *path, last = name.removeprefix(prefix).split(".")
            node = root
            for step in path:
                node = _child(node, step)
            node[last] = value
    return root


def _child(node: JSON, step: str) -> JSON:
    child = node.setdefault(step, {})
    if not isinstance(child, dict):
        child = node[step] = {"": child}
    return child


def _items(node: Any) -> list[JSON]:
    """What is numbered under a node, in order."""
    numbered = {int(key): item for key, item in node.items() if key.isdigit()} if isinstance(node, dict) else {}
    return [numbered[index] for index in sorted(numbered) if isinstance(numbered[index], dict)]
