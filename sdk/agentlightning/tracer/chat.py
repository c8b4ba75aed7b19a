"""A chat completion as attributes of a span: question and answer. Knows OpenAI's JSON, not its package."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel

from agentlightning.emitter.attributes import AttributeValue, Scalar, attribute, to_json

JSON = dict[str, Any]
Attributes = dict[str, AttributeValue]

SPAN_NAME: Final = "openai.chat.completion"

_REQUEST_NAMES: Final = {"stream": "gen_ai.request.streaming", "user": "gen_ai.user"}
_NOT_PARAMETERS: Final = frozenset({"messages", "input", "instructions", "tools"})
_DERIVED: Final = frozenset({"parsed"})  # what the client made of `content`
_WHOLE_IN_EVERY_CHUNK: Final = frozenset({"role", "id", "type", "name", "index"})


def plain(value: object) -> Any:
    """The JSON of a request's or response's part, which may be or hold models of the client's."""
    if isinstance(value, Scalar):
        return value
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True, warnings=False)
    return json.loads(to_json(value))


def parameters(request: Mapping[str, Any]) -> Attributes:
    """The attributes of what a request asks for besides its text and tools."""
    attributes: Attributes = {"gen_ai.system": "OpenAI"}
    for name, value in request.items():
        if isinstance(value, (str, bool, int, float, list, tuple, dict)) and name not in _NOT_PARAMETERS:
            attributes[_REQUEST_NAMES.get(name, f"gen_ai.request.{name}")] = attribute(plain(value))
    return attributes


def request_attributes(request: Mapping[str, Any]) -> Attributes:
    """The attributes of a request."""
    attributes = {"gen_ai.request.type": "chat", _REQUEST_NAMES["stream"]: False, **parameters(request)}
    for index, message in enumerate(request.get("messages") or ()):
        attributes |= _message(f"gen_ai.prompt.{index}", plain(message))
    tools = request.get("tools")
    for index, tool in enumerate(tools if isinstance(tools, (list, tuple)) else ()):
        kind, body = _body(plain(tool))
        attributes |= {f"gen_ai.request.functions.{index}.{key}": attribute(value) for key, value in body.items()}
        if kind != "function":
            attributes[f"gen_ai.request.functions.{index}.type"] = kind
    return attributes


def response_attributes(response: JSON) -> Attributes:
    """The attributes of a whole completion."""
    usage = response.get("usage") or {}
    reasoning = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens")
    counts = {name: usage.get(name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    attributes = {f"gen_ai.usage.{name}": count for name, count in {**counts, "reasoning_tokens": reasoning}.items()}
    attributes["gen_ai.response.id"] = response.get("id")
    attributes["gen_ai.response.model"] = response.get("model")
    attributes["gen_ai.openai.system_fingerprint"] = response.get("system_fingerprint")
    for choice in response.get("choices") or ():
        prefix = f"gen_ai.completion.{choice.get('index', 0)}"
        attributes |= _message(prefix, choice.get("message") or {})
        attributes[f"{prefix}.finish_reason"] = choice.get("finish_reason")
    attributes |= _token_ids(response)
    return {name: value for name, value in attributes.items() if value is not None}


def tool_calls(response: JSON) -> Iterator[tuple[str, Attributes]]:
    """The tools that a completion calls: their names, and the attributes of their spans."""
    for choice in response.get("choices") or ():
        for call in (choice.get("message") or {}).get("tool_calls") or ():
            kind, body = _body(call)
            name = str(body.get("name", ""))
            yield (
                name,
                {
                    "tool.name": name,
                    "tool.parameters": str(body.get("arguments", body.get("input", ""))),
                    "tool.call.id": str(call.get("id", "")),
                    "tool.call.type": kind,
                },
            )


def joined(chunks: Iterable[JSON]) -> JSON:
    """The completion that its chunks are the pieces of."""
    response: JSON = {}
    choices: dict[int, JSON] = {}
    for chunk in chunks:
        response |= {key: value for key, value in chunk.items() if key != "choices"}
        for piece in chunk.get("choices") or ():
            choice = choices.setdefault(piece.get("index", 0), {"index": piece.get("index", 0), "message": {}})
            choice["finish_reason"] = piece.get("finish_reason") or choice.get("finish_reason")
            _append(choice["message"], piece.get("delta") or {})
    return {**response, "choices": [choices[index] for index in sorted(choices)]}


def _message(prefix: str, message: JSON) -> Attributes:
    calls = message.get("tool_calls") or ()
    attributes = {
        f"{prefix}.{key}": attribute(value)
        for key, value in message.items()
        if value is not None and key != "tool_calls" and key not in _DERIVED
    }
    for index, call in enumerate(calls):
        kind, body = _body(call)
        fields = {
            "id": call.get("id"),
            "name": body.get("name"),
            "arguments": body.get("arguments", body.get("input")),
            "type": kind if kind != "function" else None,
        }
        attributes |= {f"{prefix}.tool_calls.{index}.{key}": str(field) for key, field in fields.items() if field}
    return attributes


def _body(tool: JSON) -> tuple[str, JSON]:
    """The kind of a tool or of a call, and what stands under the kind's name."""
    kind = str(tool.get("type") or "function")
    return kind, tool.get(kind) or {}


def _token_ids(response: JSON) -> JSON:
    """What servers of open models add, and reinforcement learning needs."""
    first: JSON = next(iter(response.get("choices") or ()), {})
    of_provider = first.get("provider_specific_fields") or {}
    of_response = next(iter(response.get("response_token_ids") or ()), None)
    logprobs = first.get("logprobs") or {}
    return {
        "prompt_token_ids": response.get("prompt_token_ids"),
        "response_token_ids": of_response or first.get("token_ids") or of_provider.get("token_ids"),
        **{f"logprobs.{key}": attribute(value) for key, value in logprobs.items() if value},
    }


def _append(message: JSON, delta: JSON) -> None:
    for key, piece in delta.items():
        if isinstance(piece, dict):
            _append(message.setdefault(key, {}), piece)
        elif key == "tool_calls":
            calls = message.setdefault(key, [])
            for call in piece:
                index = call.get("index", len(calls))
                calls.extend({} for _ in range(index + 1 - len(calls)))
                _append(calls[index], call)
        elif isinstance(piece, str) and key not in _WHOLE_IN_EVERY_CHUNK:
            message[key] = message.get(key, "") + piece
        else:
            message[key] = piece
