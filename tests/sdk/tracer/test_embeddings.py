from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest
from agentlightning.testing import Fault
from agentlightning.tracer import embeddings
from agentlightning.types import Span
from openai import OpenAI

Recorded = Callable[[Callable[[], Any]], Awaitable[list[Span]]]
Failing = Callable[[Fault], OpenAI]


@pytest.mark.parametrize("is_async", [False, True])
async def test_embeddings_are_a_span_with_texts_and_without_vectors(client, async_client, recorded, is_async) -> None:
    api = (async_client if is_async else client).embeddings
    (span,) = await recorded(lambda: api.create(model="m", input=["Hello?", "Bye."], dimensions=3, user="me"))
    assert (span.name, span.kind, span.status.status_code) == ("openai.embeddings", "CLIENT", "OK")
    assert span.attributes.pop("gen_ai.request.encoding_format") == "base64"  # the client's own choice
    assert span.attributes == {
        "gen_ai.request.type": "embedding",
        "gen_ai.system": "OpenAI",
        "gen_ai.request.model": "m",
        "gen_ai.request.dimensions": 3,
        "gen_ai.user": "me",
        "gen_ai.prompt.0.content": "Hello?",
        "gen_ai.prompt.1.content": "Bye.",
        "gen_ai.response.model": "m",
        "gen_ai.usage.prompt_tokens": 2,
        "gen_ai.usage.total_tokens": 2,
        "gen_ai.embeddings.dimension.count": 3,
    }


@pytest.mark.parametrize(
    ("asked", "prompts"),
    [("Hello?", ["Hello?"]), ([1, 2], [[1, 2]]), ([[1, 2], [3]], [[1, 2], [3]])],
)
def test_a_text_or_tokens_are_a_prompt_each(asked: Any, prompts: list[Any]) -> None:
    attributes = embeddings.request_attributes({"model": "m", "input": asked})
    assert [attributes[f"gen_ai.prompt.{index}.content"] for index in range(len(prompts))] == prompts
    assert f"gen_ai.prompt.{len(prompts)}.content" not in attributes


async def test_raw_and_streamed_responses_are_recorded(client: OpenAI, recorded: Recorded) -> None:
    def call() -> None:
        client.embeddings.with_raw_response.create(model="m", input="Hello?")
        with client.embeddings.with_streaming_response.create(model="m", input="Hello?") as response:
            response.read()

    spans = await recorded(call)
    assert [span.attributes["gen_ai.usage.total_tokens"] for span in spans] == [1, 1]


async def test_an_error_is_recorded_and_raised(failing: Failing, recorded: Recorded) -> None:
    def call() -> None:
        with pytest.raises(openai.RateLimitError):
            failing(Fault(status=429)).embeddings.create(model="m", input="Hello?")

    (span,) = await recorded(call)
    assert (span.name, span.status.status_code) == ("openai.embeddings", "ERROR")
