"""Messages as OpenTelemetry's GenAI conventions write them: lists of parts in JSON, before that one event a message.

Knows those two spellings and how OpenAI writes the same. What neither names is handed on as it is.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from agentlightning.adapter.numbered import JSON, content_of, decoded, dicts, nested
from agentlightning.types import Event

DETAILS_EVENT: Final = "gen_ai.client.inference.operation.details"
"""An event that carries the attributes which instrumentations may keep off the span."""

_CHOICE_EVENT: Final = "gen_ai.choice"
_ROLE_OF_EVENT: Final = {f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")}


def prompts(attributes: Mapping[str, Any]) -> list[JSON]:
    """The messages that were sent, instructions first."""
    sent = _messages(attributes.get("gen_ai.input.messages"), "user")
    told = decoded(attributes.get("gen_ai.system_instructions"))
    parts = [{"type": "text", "content": told}] if isinstance(told, str) else dicts(told)
    return [*_as_openai({"parts": parts}, "system"), *sent] if parts else sent


def answers(attributes: Mapping[str, Any]) -> list[JSON]:
    """The messages that came back, one for each choice."""
    return _messages(attributes.get("gen_ai.output.messages"), "assistant")


def tools(attributes: Mapping[str, Any]) -> list[JSON]:
    """The tools on offer."""
    return [_tool(definition) for definition in dicts(decoded(attributes.get("gen_ai.tool.definitions")))]


def prompts_of_events(events: Iterable[Event]) -> list[JSON]:
    """The messages that were sent, from one event each."""
    told = ((_ROLE_OF_EVENT.get(event.name), event) for event in events)
    return [_as_openai_event(_body(event), role) for role, event in told if role is not None]


def answers_of_events(events: Iterable[Event]) -> list[JSON]:
    """The messages that came back, from one event for each choice."""
    bodies = [_body(event) for event in events if event.name == _CHOICE_EVENT]
    return [_as_openai_event(_of_choice(body), "assistant") for body in sorted(bodies, key=_index)]


def _messages(recorded: Any, role: str) -> list[JSON]:
    return [message for told in dicts(decoded(recorded)) for message in _as_openai(told, role)]


def _as_openai(recorded: JSON, role: str) -> Iterator[JSON]:
    """A message as OpenAI writes it; several when it answers several calls of tools."""
    rest = {key: value for key, value in recorded.items() if key not in ("parts", "finish_reason")}
    rest["role"] = rest.get("role") or role
    parts = dicts(recorded.get("parts"))
    yield from ({**rest, "role": "tool", **_tool_answer(part)} for part in parts if _is_tool_answer(part))
    others = [part for part in parts if not _is_tool_answer(part)]
    if others or len(others) == len(parts):
        yield {**rest, **_content(others, rest.get("content"))}


def _content(parts: list[JSON], content: Any) -> JSON:
    calls = [_tool_call(part) for part in parts if part.get("type") == "tool_call"]
    thoughts = [str(part.get("content", "")) for part in parts if part.get("type") == "reasoning"]
    shown = [_part(part) for part in parts if part.get("type") not in ("tool_call", "reasoning")]
    text = shown[0].get("text") if len(shown) == 1 and shown[0].get("type") == "text" else None
    others = shown or content or (None if calls else "")
    message: JSON = {"content": others if text is None else text}
    message |= {"reasoning_content": "\n".join(thoughts)} if thoughts else {}
    return message | ({"tool_calls": calls} if calls else {})


def _part(part: JSON) -> JSON:
    is_image = part.get("modality") == "image"
    match part:
        case {"type": "text", "content": str(text)}:
            return {"type": "text", "text": text}
        case {"type": "uri", "uri": str(url)} if is_image:
            return {"type": "image_url", "image_url": {"url": url}}
        case {"type": "blob", "content": str(data)} if is_image:
            url = f"data:{part.get('mime_type') or 'image/png'};base64,{data}"
            return {"type": "image_url", "image_url": {"url": url}}
    return part


def _tool_call(part: JSON) -> JSON:
    function = {"name": part.get("name", ""), "arguments": _text(part.get("arguments", ""))}
    return {"id": part.get("id") or "", "type": "function", "function": function}


def _is_tool_answer(part: JSON) -> bool:
    return part.get("type") == "tool_call_response"


def _tool_answer(part: JSON) -> JSON:
    return {"tool_call_id": part.get("id") or "", "content": _text(part.get("response", part.get("result", "")))}


def _tool(definition: JSON) -> JSON:
    kind = str(definition.get("type") or "function")
    if kind in definition:
        return definition
    return {"type": kind, kind: {key: value for key, value in definition.items() if key != "type"}}


def _body(event: Event) -> JSON:
    """What an event says: in attributes of its own, or as one JSON."""
    own = nested({name: value for name, value in event.attributes.items() if not name.startswith("gen_ai.")}, "")
    whole = decoded(event.attributes.get("gen_ai.event.content"))
    return own | (whole if isinstance(whole, dict) else {"content": whole} if whole else {})


def _of_choice(body: JSON) -> JSON:
    message = decoded(body.get("message"))
    if isinstance(message, dict):
        return {"tool_calls": body.get("tool_calls"), **message}
    rest = {key: value for key, value in body.items() if key not in ("index", "finish_reason", "message")}
    return rest | ({} if message is None else {"content": message})


def _as_openai_event(body: JSON, role: str) -> JSON:
    calls = dicts(decoded(body.get("tool_calls")))
    message = {key: value for key, value in body.items() if key not in ("tool_calls", "id")}
    message["role"] = message.get("role") or role
    message["content"] = content_of(message.get("content", None if calls else ""))
    if "id" in body:
        message["tool_call_id" if message["role"] == "tool" else "id"] = body["id"]
    return message | ({"tool_calls": calls} if calls else {})


def _index(body: JSON) -> int:
    index = body.get("index", 0)
    return index if isinstance(index, int) else 0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
