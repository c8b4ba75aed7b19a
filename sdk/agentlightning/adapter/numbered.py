"""Messages written as numbered attributes: `gen_ai.prompt.0.content`. Knows that spelling, and no span."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

JSON = dict[str, Any]

_OF_CHOICE: Final = frozenset({"finish_reason", "content_filter_results", "index"})


def prompts(attributes: Mapping[str, Any]) -> list[JSON]:
    """The messages that were sent."""
    return [_message(prompt, "user") for prompt in items(nested(attributes, "gen_ai.prompt."))]


def answers(attributes: Mapping[str, Any], tools_called: Sequence[Mapping[str, Any]] = ()) -> list[JSON]:
    """The messages that came back, one for each choice.

    Args:
        attributes: Those of the call's span.
        tools_called: Those of its children that are calls of tools: some instrumentations record them there alone.
    """
    choices = items(nested(attributes, "gen_ai.completion."))
    return [_answer(choice, tools_called) for choice in choices]


def tools(attributes: Mapping[str, Any]) -> list[JSON]:
    """The tools on offer."""
    return [_tool(function) for function in items(nested(attributes, "gen_ai.request.functions."))]


def nested(attributes: Mapping[str, Any], prefix: str) -> JSON:
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


def items(node: Any) -> list[JSON]:
    """What is numbered under a node, in order."""
    numbered = {int(key): item for key, item in node.items() if key.isdecimal()} if isinstance(node, dict) else {}
    return [numbered[index] for index in sorted(numbered) if isinstance(numbered[index], dict)]


def dicts(node: Any) -> list[JSON]:
    """The dicts in a list, where it is one."""
    return [item for item in node if isinstance(item, dict)] if isinstance(node, list) else []


def decoded(text: Any) -> Any:
    """What a text says in JSON; anything else as it is."""
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return text


def content_of(content: Any) -> Any:
    """The content as it was sent: parts are recorded as JSON, text as it is."""
    parts = decoded(content) if isinstance(content, str) and content.startswith("[{") else None
    if isinstance(parts, list) and all(isinstance(part, dict) and "type" in part for part in parts):
        return parts
    return content


def _answer(choice: JSON, tools_called: Sequence[Mapping[str, Any]]) -> JSON:
    message = {key: value for key, value in choice.items() if key not in _OF_CHOICE}
    if tools_called and "tool_calls" not in message:
        message["tool_calls"] = {str(index): _called(tool) for index, tool in enumerate(tools_called)}
    return _message(message, "assistant")


def _message(recorded: JSON, role: str) -> JSON:
    calls = [_tool_call(call) for call in items(recorded.get("tool_calls"))]
    content = recorded.get("content", None if calls else "")
    message = {**recorded, "role": recorded.get("role", role), "content": content_of(content)}
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
    kind = str(recorded.get("type", "function"))
    text = "arguments" if kind == "function" else "input"
    body = {"name": recorded.get("name", ""), text: recorded.get("arguments", "")}
    return {"id": recorded.get("id", ""), "type": kind, kind: body}


def _tool(recorded: JSON) -> JSON:
    kind = str(recorded.get("type", "function"))
    body = {key: value for key, value in recorded.items() if key != "type"}
    if "parameters" in body:
        body["parameters"] = decoded(body["parameters"])
    return {"type": kind, kind: body}


def _child(node: JSON, step: str) -> JSON:
    child = node.setdefault(step, {})
    if not isinstance(child, dict):
        child = node[step] = {"": child}
    return child
