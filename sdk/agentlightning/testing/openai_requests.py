"""What the stand-in server is asked: a conversation, in whichever of OpenAI's two ways. Knows no answers."""

from dataclasses import dataclass
from typing import Any

JSON = dict[str, Any]


@dataclass(frozen=True)
class ChatRequest:
    """One request for a chat completion or a response, which say the same in two ways.

    Example:
        >>> request = ChatRequest({"model": "m", "input": "Hello?"}, digest="", occurrence=0)
        >>> request.messages
        [{'role': 'user', 'content': 'Hello?'}]

    Attributes:
        body: The request as it was sent.
        digest: SHA-256 of the body as canonical JSON, in hex.
        occurrence: How many times the server had seen this very body before.
        number: How many requests of any kind the server had seen before.
    """

    body: JSON
    digest: str
    occurrence: int
    number: int = 0

    @property
    def model(self) -> str:
        """The name of the model that was asked for."""
        return str(self.body.get("model", ""))

    @property
    def messages(self) -> list[JSON]:
        """The conversation so far; that of a response as it would be asked of a chat completion."""
        messages: list[JSON] = self.body["messages"] if "messages" in self.body else _messages(self.body)
        return messages

    @property
    def tools(self) -> list[JSON]:
        """The tools on offer, as they are offered to a chat completion; empty when there are none."""
        return [_tool(tool) for tool in self.body.get("tools") or []]


def _messages(body: JSON) -> list[JSON]:
    asked, instructions = body["input"], body.get("instructions")
    system = [{"role": "system", "content": instructions}] if instructions else []
    items = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    return [*system, *map(_message, items)]


def _message(item: JSON) -> JSON:
    match item.get("type", "message"):
        case "message":
            return {"role": item.get("role"), "content": _text(item.get("content"))}
        case "function_call":
            body = {"name": item.get("name"), "arguments": item.get("arguments")}
            call = {"id": item.get("call_id"), "type": "function", "function": body}
            return {"role": "assistant", "content": None, "tool_calls": [call]}
        case "function_call_output":
            return {"role": "tool", "tool_call_id": item.get("call_id"), "content": _text(item.get("output"))}
        case _:
            return item


def _text(content: Any) -> Any:
    return "".join(part.get("text", "") for part in content) if isinstance(content, list) else content


def _tool(tool: JSON) -> JSON:
    if tool.get("type") != "function" or "function" in tool:
        return tool
    return {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}
