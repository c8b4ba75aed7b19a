"""A request for embeddings as attributes of a span. The vectors, which nobody reads in a trace, are not recorded."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from agentlightning.emitter.attributes import attribute
from agentlightning.tracer import chat
from agentlightning.tracer.chat import JSON, Attributes

SPAN_NAME: Final = "openai.embeddings"


def request_attributes(request: Mapping[str, Any]) -> Attributes:
    """The attributes of a request: its texts are prompts."""
    asked = request.get("input")
    texts = asked if isinstance(asked, (list, tuple)) and not _is_tokens(asked) else [asked]
    prompts = {f"gen_ai.prompt.{index}.content": attribute(text) for index, text in enumerate(texts)}
    return {"gen_ai.request.type": "embedding", **chat.parameters(request), **prompts}


def plain(response: Any) -> JSON:
    """The JSON of a response with the first of its vectors."""
    if isinstance(response, Mapping):
        return dict(response)
    first = [chat.plain(embedding) for embedding in response.data[:1]]
    return {"model": response.model, "usage": chat.plain(response.usage), "data": first}


def joined(chunks: Iterable[JSON]) -> JSON:
    """The last chunk: embeddings are not streamed."""
    return list(chunks)[-1]


def response_attributes(response: JSON) -> Attributes:
    """The attributes of a response: its model, the tokens used and the length of the vectors."""
    attributes = chat.response_attributes(response)
    for first in response.get("data", ())[:1]:
        if isinstance(first["embedding"], list):  # and not in base64
            attributes["gen_ai.embeddings.dimension.count"] = len(first["embedding"])
    return attributes


def tool_calls(response: JSON) -> Iterator[tuple[str, Attributes]]:
    """None: embeddings call no tools."""
    return iter(())


def _is_tokens(asked: list[Any] | tuple[Any, ...]) -> bool:
    return bool(asked) and isinstance(asked[0], int)
