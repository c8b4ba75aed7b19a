"""What instrumentations with names of their own record of a call of a model, in the names of the GenAI conventions.

Knows OpenInference, OpenLLMetry's older names and the AI SDK of TypeScript, and neither spans nor messages as such.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from agentlightning.adapter.numbered import JSON, decoded, dicts, items, nested

_RENAMED: Final = {
    "llm.model_name": "gen_ai.request.model",
    "llm.token_count.prompt": "gen_ai.usage.input_tokens",
    "llm.token_count.completion": "gen_ai.usage.output_tokens",
    "llm.request.type": "gen_ai.request.type",
    "ai.model.id": "gen_ai.request.model",
    "ai.usage.promptTokens": "gen_ai.usage.input_tokens",
    "ai.usage.completionTokens": "gen_ai.usage.output_tokens",
}
_MESSAGES: Final = {"llm.input_messages.": "gen_ai.prompt.", "llm.output_messages.": "gen_ai.completion."}
_WRAPPED: Final = re.compile(r"\.message\.|\.tool_call\.(?:function\.)?")
_CONTENTS: Final = re.compile(r"\.message\.contents\..*")
_FUNCTIONS: Final = "llm.request.functions."
_TOOL: Final = re.compile(r"llm\.tools\.\d+\.tool\.json_schema")


def in_conventions(attributes: Mapping[str, Any]) -> JSON:
    """The attributes with what is told in other names only, in those of the conventions, too.

    Example:
        >>> in_conventions({"llm.input_messages.0.message.content": "Which room?"})["gen_ai.prompt.0.content"]
        'Which room?'
    """
    told = dict(_told(attributes)) if any(name.startswith(("llm.", "ai.")) for name in attributes) else {}
    return told | dict(attributes)


def _told(attributes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in attributes.items():
        if name in _RENAMED:
            yield _RENAMED[name], value
        elif name.startswith(_FUNCTIONS):
            yield f"gen_ai.request.functions.{name.removeprefix(_FUNCTIONS)}", value
    named = (_CONTENTS.sub("", name) for name in attributes if name.startswith(tuple(_MESSAGES)))
    yield from (_of_message(name, attributes) for name in dict.fromkeys(named))
    if tools := [decoded(value) for name, value in attributes.items() if _TOOL.fullmatch(name)]:
        yield "gen_ai.tool.definitions", tools
    yield from _of_ai_sdk(attributes)


def _of_message(name: str, attributes: Mapping[str, Any]) -> tuple[str, Any]:
    """OpenInference: each part of a message an attribute, wrapped in the names of what it is a part of."""
    prefix = next(prefix for prefix in _MESSAGES if name.startswith(prefix))
    told = f"{_MESSAGES[prefix]}{_WRAPPED.sub('.', name.removeprefix(prefix))}"
    if name in attributes:
        return told, attributes[name]
    parts = items(nested(attributes, f"{name}.message.contents."))
    return f"{told}.content", [_part(part.get("message_content", {})) for part in parts]


def _part(recorded: JSON) -> JSON:
    match recorded:
        case {"image": {"image": {"url": url}}}:
            return {"type": "image_url", "image_url": {"url": url}}
    return recorded


def _of_ai_sdk(attributes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The AI SDK: messages as its programs write them, an answer in its parts."""
    if sent := dicts(decoded(attributes.get("ai.prompt.messages"))):
        yield "gen_ai.input.messages", [_message(message) for message in sent]
    calls = [{"type": "tool-call", **call} for call in dicts(decoded(attributes.get("ai.response.toolCalls")))]
    said = [{"type": "text", "text": attributes["ai.response.text"]}] if attributes.get("ai.response.text") else []
    if said or calls:
        yield "gen_ai.output.messages", [_message({"role": "assistant", "content": [*said, *calls]})]
    if isinstance(tools := attributes.get("ai.prompt.tools"), list | tuple):
        yield "gen_ai.tool.definitions", [_tool(tool) for tool in dicts([*map(decoded, tools)])]


def _message(message: JSON) -> JSON:
    content = message.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return {"role": message.get("role"), "parts": [_part_of_ai_sdk(part) for part in dicts(parts)]}


def _part_of_ai_sdk(part: JSON) -> JSON:
    match part:
        case {"type": "text" | "reasoning" as kind, "text": text}:
            return {"type": kind, "content": text}
        case {"type": "tool-call", "toolCallId": name}:
            return {
                "type": "tool_call",
                "id": name,
                "name": part.get("toolName", ""),
                "arguments": part.get("input", part.get("args", "")),
            }
        case {"type": "tool-result", "toolCallId": name, "output": {"type": _, "value": value}}:
            return {"type": "tool_call_response", "id": name, "response": value}
        case {"type": "tool-result", "toolCallId": name}:
            return {"type": "tool_call_response", "id": name, "response": part.get("result", "")}
    return part


def _tool(definition: JSON) -> JSON:
    if "inputSchema" not in definition:
        return definition
    rest = {key: value for key, value in definition.items() if key != "inputSchema"}
    return rest | {"parameters": definition["inputSchema"]}
