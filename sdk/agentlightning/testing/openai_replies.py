"""What the stand-in server says, in the words of OpenAI's APIs. Knows no sockets."""

import base64
import hashlib
import json
import math
import random
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from agentlightning.testing.openai_requests import JSON, ChatRequest

_DIMENSIONS = 8


@dataclass(frozen=True)
class ChatReply:
    """What the model says: text, calls of tools as (name, arguments), or both.

    Example:
        >>> ChatReply(tool_calls=[("look", {"at": "the sky"})]).content is None
        True
    """

    content: str | None = None
    tool_calls: Sequence[tuple[str, JSON]] = ()


Answer = Callable[[ChatRequest], ChatReply]


class Reply(Protocol):
    """A reply in OpenAI's words."""

    def whole(self) -> JSON:
        """The reply at once."""

    def events(self) -> Iterator[str]:
        """The reply as server-sent events."""


def chat_completion(request: ChatRequest, answer: Answer) -> Reply:
    """The reply of `/v1/chat/completions`."""
    if not isinstance(request.body.get("messages"), list):
        raise ValueError("The body must be a JSON object with a list of messages.")
    return _ChatCompletion(request, answer(request))


def response(request: ChatRequest, answer: Answer) -> Reply:
    """The reply of `/v1/responses`."""
    if not isinstance(request.body.get("input"), (str, list)):
        raise ValueError("The body must be a JSON object with an input: text, or a list of items.")
    return _Response(request, answer(request))


def embeddings(request: ChatRequest, answer: Answer) -> Reply:
    """The reply of `/v1/embeddings`, which depends on the texts alone."""
    if not isinstance(request.body.get("input"), (str, list)):
        raise ValueError("The body must be a JSON object with an input: text, tokens, or a list of either.")
    return _Embeddings(request)


@dataclass(frozen=True)
class _Said:
    """What both kinds of answers say."""

    request: ChatRequest
    reply: ChatReply

    @cached_property
    def id(self) -> str:
        return hashlib.sha256(f"{self.request.digest}:{self.request.occurrence}".encode()).hexdigest()[:24]

    @cached_property
    def calls(self) -> list[JSON]:
        """The calls of tools: ids, names, arguments."""
        return [
            {"id": f"call_{self.id}_{index}", "name": name, "arguments": json.dumps(arguments)}
            for index, (name, arguments) in enumerate(self.reply.tool_calls)
        ]

    @property
    def tokens(self) -> tuple[int, int]:
        """Those of the prompt and those of the completion."""
        said = (self.reply.content or "") + "".join(call["arguments"] for call in self.calls)
        return len(json.dumps(self.request.messages)) // 4, len(said) // 4

    @property
    def pieces(self) -> list[str]:
        """The text, word by word."""
        return re.findall(r"\S+\s*|\s+", self.reply.content or "")


@dataclass(frozen=True)
class _ChatCompletion(_Said):
    @property
    def _finish_reason(self) -> str:
        return "tool_calls" if self.calls else "stop"

    @property
    def _tool_calls(self) -> list[JSON]:
        return [
            {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
            for call in self.calls
        ]

    @property
    def _usage(self) -> JSON:
        prompt, completion = self.tokens
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def whole(self) -> JSON:
        message: JSON = {"role": "assistant", "content": self.reply.content, "refusal": None}
        if self.calls:
            message["tool_calls"] = self._tool_calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish_reason}
        return self._object("chat.completion", choices=[choice], usage=self._usage)

    def events(self) -> Iterator[str]:
        for chunk in self._chunks():
            yield f"data: {json.dumps(chunk)}\n\n"
        yield "data: [DONE]\n\n"

    def _chunks(self) -> Iterator[JSON]:
        yield self._chunk({"role": "assistant"})
        for piece in self.pieces:
            yield self._chunk({"content": piece})
        for index, call in enumerate(self._tool_calls):
            yield self._chunk({"tool_calls": [{"index": index, **call}]})
        yield self._chunk({}, self._finish_reason)
        if (self.request.body.get("stream_options") or {}).get("include_usage"):
            yield self._object("chat.completion.chunk", choices=[], usage=self._usage)

    def _chunk(self, delta: JSON, finish_reason: str | None = None) -> JSON:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return self._object("chat.completion.chunk", choices=[choice])

    def _object(self, kind: str, **fields: Any) -> JSON:
        return {"id": f"chatcmpl-{self.id}", "object": kind, "created": 0, "model": self.request.model, **fields}


@dataclass(frozen=True)
class _Response(_Said):
    def whole(self) -> JSON:
        prompt, completion = self.tokens
        usage = {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + completion,
        }
        return self._object("completed", self._items, usage)

    def events(self) -> Iterator[str]:
        for number, (kind, fields) in enumerate(self._events()):
            event = {"type": kind, "sequence_number": number, **fields}
            yield f"event: {kind}\ndata: {json.dumps(event)}\n\n"

    def _events(self) -> Iterator[tuple[str, JSON]]:
        yield "response.created", {"response": self._object("in_progress", [], None)}
        for index, item in enumerate(self._items):
            empty: JSON = {"content": []} if item["type"] == "message" else {"arguments": ""}
            yield (
                "response.output_item.added",
                {"output_index": index, "item": item | empty | {"status": "in_progress"}},
            )
            yield from self._growing(item, {"item_id": item["id"], "output_index": index})
            yield "response.output_item.done", {"output_index": index, "item": item}
        yield "response.completed", {"response": self.whole()}

    def _growing(self, item: JSON, where: JSON) -> Iterator[tuple[str, JSON]]:
        if item["type"] == "function_call":
            yield "response.function_call_arguments.delta", {**where, "delta": item["arguments"]}
            done = {"name": item["name"], "arguments": item["arguments"]}
            yield "response.function_call_arguments.done", {**where, **done}
            return
        (part,) = item["content"]
        where = {**where, "content_index": 0}
        yield "response.content_part.added", {**where, "part": {**part, "text": ""}}
        for piece in self.pieces:
            yield "response.output_text.delta", {**where, "delta": piece, "logprobs": []}
        yield "response.output_text.done", {**where, "text": part["text"], "logprobs": []}
        yield "response.content_part.done", {**where, "part": part}

    @property
    def _items(self) -> list[JSON]:
        calls = [
            {
                "type": "function_call",
                "id": f"fc_{self.id}_{index}",
                "call_id": call["id"],
                "name": call["name"],
                "arguments": call["arguments"],
                "status": "completed",
            }
            for index, call in enumerate(self.calls)
        ]
        return [self._message(self.reply.content), *calls] if self.reply.content is not None else calls

    def _message(self, text: str) -> JSON:
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        return {
            "type": "message",
            "id": f"msg_{self.id}",
            "role": "assistant",
            "status": "completed",
            "content": [part],
        }

    def _object(self, status: str, output: list[JSON], usage: JSON | None) -> JSON:
        asked: JSON = {
            "instructions": None,
            "metadata": {},
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
        }
        return {
            "id": f"resp_{self.id}",
            "object": "response",
            "created_at": 0,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": self.request.model,
            "output": output,
            "usage": usage,
            **{name: self.request.body.get(name, usual) for name, usual in asked.items()},
        }


@dataclass(frozen=True)
class _Embeddings:
    request: ChatRequest

    def whole(self) -> JSON:
        asked = self.request.body["input"]
        is_one = isinstance(asked, str) or all(isinstance(token, int) for token in asked)
        texts = [asked] if is_one else asked
        tokens = sum(len(text) // 4 if isinstance(text, str) else len(text) for text in texts)
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": self._encoded(text)}
                for index, text in enumerate(texts)
            ],
            "model": self.request.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    def events(self) -> Iterator[str]:
        yield f"data: {json.dumps(self.whole())}\n\n"

    def _encoded(self, text: object) -> list[float] | str:
        vector = _vector(text, self.request.body.get("dimensions") or _DIMENSIONS)
        if self.request.body.get("encoding_format") == "base64":
            return base64.b64encode(array("f", vector)).decode()
        return vector


def _vector(text: object, dimensions: int) -> list[float]:
    chance = random.Random(repr(text))
    numbers = [chance.gauss() for _ in range(dimensions)]
    length = math.hypot(*numbers)
    return [number / length for number in numbers]
