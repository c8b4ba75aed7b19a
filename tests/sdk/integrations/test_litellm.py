"""Calls through LiteLLM: of a provider that it calls by OpenAI's client, and of one that it calls by itself."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.testing import ChatReply, ChatRequest, OpenAIServer

from .conftest import needs

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
HELLO = [{"role": "user", "content": "Hello?"}]

Ask = Callable[..., Awaitable[list[agl.Span]]]
pytestmark = pytest.mark.parametrize("model", ["openai/m", "hosted_vllm/m"])


def reply(request: ChatRequest) -> ChatReply:
    if "fail" in str(request.messages):
        raise ValueError("no such date")
    return ChatReply("It is blue.")


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(reply) as server:
        yield server


@pytest.fixture
def ask(server: OpenAIServer, model: str) -> Iterator[Ask]:
    """Asks a model, and gives the spans of it."""
    needs("litellm")
    import litellm

    tracer = agl.Tracer(instrumentors=[])
    tracer.init_worker(0)

    async def ask(*, is_async: bool = False, messages: Any = HELLO, **request: Any) -> list[agl.Span]:
        request |= {"api_base": server.base_url, "api_key": "a secret", "max_retries": 0}
        async with tracer.trace_context() as attempt:
            if is_async:
                await heard(await litellm.acompletion(model, messages, **request))
            else:
                heard_now(litellm.completion(model, messages, **request))
        return attempt.spans[1:]

    yield ask
    tracer.teardown_worker(0)


async def heard(answer: Any) -> None:
    if isinstance(answer, AsyncIterator):
        assert [chunk async for chunk in answer]


def heard_now(answer: Any) -> None:
    if isinstance(answer, Iterator):
        assert list(answer)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_is_one_span_with_question_and_answer(ask: Ask, is_async: bool, stream: bool) -> None:
    (span,) = await ask(is_async=is_async, stream=stream)
    (conversation,) = agl.TraceToMessages().adapt([span])
    assert [(message["role"], message["content"]) for message in conversation["messages"]] == [
        ("user", "Hello?"),
        ("assistant", "It is blue."),
    ]


async def test_a_call_that_fails_is_one_span_that_says_why(model: str) -> None:
    needs("litellm")
    import litellm

    tracer = agl.Tracer(instrumentors=[])
    tracer.init_worker(0)
    with OpenAIServer(reply) as server:
        async with tracer.trace_context() as attempt:
            with pytest.raises(litellm.exceptions.BadRequestError):
                litellm.completion(
                    model, [{"role": "user", "content": "fail"}], api_base=server.base_url, api_key="any"
                )
    tracer.teardown_worker(0)
    (span,) = attempt.spans[1:]
    assert (span.status.status_code, "no such date" in str(span.status.description)) == ("ERROR", True)


async def test_no_key_is_recorded(ask: Ask) -> None:
    assert "a secret" not in str(await ask(messages=HELLO))
