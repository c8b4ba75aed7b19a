"""A response, OpenAI's other form of a chat, as attributes of a span. Knows its JSON and that of a chat completion.

It is recorded as the chat completion that says the same, so that whoever reads spans reads one form: instructions are
the system's message; what the model does in a turn, thinking, text and calls of tools, is one message.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from agentlightning.emitter.attributes import to_json
from agentlightning.tracer import chat
from agentlightning.tracer.chat import JSON, Attributes, plain

__all__ = ["SPAN_NAME", "joined", "plain", "request_attributes", "response_attributes", "tool_calls"]

SPAN_NAME: Final = "openai.response"

_TEXTS: Final = frozenset({"input_text", "output_text", "text"})
_GROWING: Final = {
    "response.function_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "input",
}
_GROWING_PARTS: Final = {"response.output_text.delta": "text", "response.refusal.delta": "refusal"}


def request_attributes(request: Mapping[str, Any]) -> Attributes:
    """The attributes of a request."""
    names = {"max_output_tokens": "max_tokens"}
    parameters = {names.get(name, name): value for name, value in request.items() if name not in ("input", "tools")}
    tools = [_under_its_kind(plain(tool)) for tool in request.get("tools") or ()]
    return chat.request_attributes({**parameters, "messages": _asked(request), "tools": tools})


def response_attributes(response: JSON) -> Attributes:
    """The attributes of a whole response."""
    return chat.response_attributes(_completion(response))


def tool_calls(response: JSON) -> Iterator[tuple[str, Attributes]]:
    """The tools that a response calls: their names, and the attributes of their spans."""
    return chat.tool_calls(_completion(response))


def joined(chunks: Iterable[JSON]) -> JSON:
    """The response that its events tell of, as far as it got."""
    response: JSON = {}
    items: dict[int, JSON] = {}
    for event in chunks:
        if "response" in event:
            response = event["response"]
        elif "item" in event:
            items[event.get("output_index", 0)] = event["item"]
        else:
            _grow(items.setdefault(event.get("output_index", 0), {"type": "message", "role": "assistant"}), event)
    return response if response.get("output") else {**response, "output": [items[index] for index in sorted(items)]}


def _grow(item: JSON, event: JSON) -> None:
    kind, piece = event.get("type", ""), event.get("delta", "")
    if key := _GROWING.get(kind):
        item[key] = item.get(key, "") + piece
    elif key := _GROWING_PARTS.get(kind):
        parts = item["content"] = list(item.get("content") or ())
        index = event.get("content_index", 0)
        parts.extend({"type": "refusal" if key == "refusal" else "output_text"} for _ in range(index + 1 - len(parts)))
        parts[index][key] = parts[index].get(key, "") + piece


def _asked(request: Mapping[str, Any]) -> list[JSON]:
    """The messages that a request asks with."""
    asked = request.get("input") or ()
    items = [{"role": "user", "content": asked}] if isinstance(asked, str) else plain(list(asked))
    if instructions := request.get("instructions"):
        items = [{"role": "system", "content": instructions}, *items]
    messages: list[JSON] = []
    for message in map(_message, items):
        if messages and _is_one_turn(messages[-1], message):
            _merge(messages[-1], message)
        else:
            messages.append(message)
    return messages


def _completion(response: JSON) -> JSON:
    """The chat completion that says what a response says."""
    output = response.get("output") or ()
    message: JSON = {}
    for item in output:
        _merge(message, _message(item))
    choice = {"message": message, "finish_reason": _finish_reason(response, message), "logprobs": _logprobs(output)}
    return {**response, "usage": _usage(response.get("usage") or {}), "choices": [choice] if output else []}


def _usage(usage: JSON) -> JSON:
    return {
        "prompt_tokens": usage.get("input_tokens"),
        "completion_tokens": usage.get("output_tokens"),
        "total_tokens": usage.get("total_tokens"),
        "completion_tokens_details": usage.get("output_tokens_details"),
    }


def _finish_reason(response: JSON, message: JSON) -> str | None:
    if response.get("status") == "completed":
        return "tool_calls" if message.get("tool_calls") else "stop"
    reason: str | None = (response.get("incomplete_details") or {}).get("reason")
    return "length" if reason == "max_output_tokens" else reason


def _logprobs(output: Iterable[JSON]) -> JSON:
    parts = [part for item in output if item.get("type") == "message" for part in item.get("content") or ()]
    return {"content": [logprob for part in parts for logprob in part.get("logprobs") or ()]}


def _message(item: JSON) -> JSON:
    """An item as the message, or the part of one, that says the same in a chat."""
    kind = item.get("type", "message")
    if kind == "message":
        return {"role": item.get("role", "assistant"), **_content(item.get("content"))}
    if kind.endswith("_call"):
        return {"role": "assistant", "tool_calls": [_tool_call(kind, item)]}
    if kind.endswith("_call_output"):
        return {"role": "tool", "tool_call_id": item.get("call_id"), **_content(item.get("output"))}
    if kind == "reasoning":
        thoughts = [part.get("text", "") for part in item.get("content") or item.get("summary") or ()]
        return {"role": "assistant", **({"reasoning_content": "\n".join(thoughts)} if thoughts else {})}
    return {"role": "assistant", "content": to_json(item)}


def _tool_call(kind: str, item: JSON) -> JSON:
    if kind == "function_call":
        kind, body = "function", {"name": item.get("name"), "arguments": item.get("arguments")}
    elif kind == "custom_tool_call":
        kind, body = "custom", {"name": item.get("name"), "input": item.get("input")}
    else:  # A tool that the model's server runs.
        rest = {key: value for key, value in item.items() if key not in ("type", "id", "call_id", "status")}
        body = {"name": kind, "input": to_json(rest)}
    return {"id": item.get("call_id") or item.get("id"), "type": kind, kind: body}


def _under_its_kind(tool: JSON) -> JSON:
    """A tool on offer as a chat completion has it."""
    kind = tool.get("type", "function")
    return {"type": kind, kind: {key: value for key, value in tool.items() if key != "type"}}


def _content(content: Any) -> JSON:
    """The content and the refusal of a message: text when it is nothing else, otherwise a chat's parts."""
    if not isinstance(content, list):
        return {"content": content}
    refusal = "".join(part["refusal"] for part in content if "refusal" in part)
    parts = [part for part in content if "refusal" not in part]
    said = {"refusal": refusal} if refusal else {}
    if all(part.get("type") == "output_text" for part in parts) or [part.get("type") for part in parts] == [
        "input_text"
    ]:
        return {"content": "".join(part.get("text", "") for part in parts), **said}
    return {"content": [_part(part) for part in parts], **said}


def _part(part: JSON) -> JSON:
    if part.get("type") in _TEXTS:
        return {"type": "text", "text": part.get("text", "")}
    if part.get("type") == "input_image" and "image_url" in part:
        image = {"url": part["image_url"], **({"detail": part["detail"]} if "detail" in part else {})}
        return {"type": "image_url", "image_url": image}
    return part


def _is_one_turn(earlier: JSON, later: JSON) -> bool:
    both = earlier.keys() & later.keys()
    return earlier["role"] == later["role"] == "assistant" and both <= {"role", "tool_calls"}


def _merge(message: JSON, more: JSON) -> None:
    for key, value in more.items():
        message[key] = message[key] + value if key != "role" and message.get(key) else value
