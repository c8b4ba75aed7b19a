"""Telling a call of what is read of its response. Knows the objects that the `openai` package streams with.

They stay the objects that they are: callers look at their types and attributes.
"""

import inspect
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

from agentlightning.tracer.call import Api, ModelCall
from agentlightning.tracer.chat import JSON


def watch(response: Any, call: ModelCall) -> bool:
    """Let a response that is still to be read tell the call of what is read of it, and of its end.

    Returns:
        Whether it is still to be read.
    """
    if hasattr(response, "__anext__"):
        _watch_stream(response, _recorder_async(response.response, call))
    elif hasattr(response, "__next__"):
        _watch_stream(response, _recorder(response.response, call))
    elif hasattr(response, "http_response"):  # of `with_streaming_response`
        call.joined = _parser(response.http_response, call.api)
        if inspect.iscoroutinefunction(response.parse):
            _watch_bytes(response.http_response, "aiter_bytes", _recorder_async(response.http_response, call))
        else:
            _watch_bytes(response.http_response, "iter_bytes", _recorder(response.http_response, call))
    else:
        return False
    return True


def _watch_stream(stream: Any, recorded: Callable[[Any], Any]) -> None:
    stream._iterator = recorded(stream._iterator)


def _watch_bytes(http_response: Any, name: str, recorded: Callable[[Any], Any]) -> None:
    read = getattr(http_response, name)
    setattr(http_response, name, lambda *args, **options: recorded(read(*args, **options)))


def _recorder(http_response: Any, call: ModelCall) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """What tells a call of all that comes by; the call ends with it, or when the HTTP response is closed before."""
    readers: list[Any] = []
    close_response = http_response.close

    def reading(chunks: Iterator[Any]) -> Iterator[Any]:
        with call:
            for chunk in chunks:
                call.add(chunk)
                yield chunk

    def recorded(chunks: Iterator[Any]) -> Iterator[Any]:
        readers.append(reader := reading(chunks))
        return reader

    def close() -> None:
        try:
            close_response()
        finally:
            if not any(reader.gi_running for reader in readers):  # Otherwise it closes itself, and tells why.
                call.end()

    http_response.close = close
    return recorded


def _recorder_async(http_response: Any, call: ModelCall) -> Callable[[AsyncIterator[Any]], AsyncIterator[Any]]:
    readers: list[Any] = []
    close_response = http_response.aclose

    async def reading(chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
        with call:
            async for chunk in chunks:
                call.add(chunk)
                yield chunk

    def recorded(chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
        readers.append(reader := reading(chunks))
        return reader

    async def close() -> None:
        try:
            await close_response()
        finally:
            if not any(reader.ag_running for reader in readers):
                call.end()

    http_response.aclose = close
    return recorded


def _parser(http_response: Any, api: Api) -> Callable[[list[bytes]], JSON]:
    """What makes a response of its bytes."""

    def parsed(pieces: list[bytes]) -> JSON:
        body = b"".join(pieces)
        if http_response.headers.get("content-type", "").startswith("text/event-stream"):
            return api.joined(_events(body))
        response: JSON = api.plain(json.loads(body))
        return response

    return parsed


def _events(body: bytes) -> Iterator[JSON]:
    for line in body.splitlines():
        with suppress(ValueError):  # of the last, which may be cut off; and of `[DONE]`
            if line.startswith(b"data:") and isinstance(event := json.loads(line[5:]), dict):
                yield event
