from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from agentlightning.testing import ChatReply, ChatRequest, Fault, OpenAIServer
from agentlightning.tracer import Tracer
from agentlightning.types import Span
from openai import AsyncOpenAI, OpenAI

Recorded = Callable[[Callable[[], Any]], Awaitable[list[Span]]]
Failing = Callable[[Fault], OpenAI]


def reply(request: ChatRequest) -> ChatReply:
    if "fail" in str(request.messages):
        raise ValueError("no such date")
    if "judge" in str(request.messages):
        return ChatReply('{"score": 0.5}')
    if request.tools:
        return ChatReply("Let me look.", [("look", {"at": "the sky"})])
    return ChatReply("It is blue.")


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(reply) as server:
        yield server


@pytest.fixture
def client(server: OpenAIServer) -> Iterator[OpenAI]:
    with OpenAI(api_key="any", base_url=server.base_url, max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(server: OpenAIServer) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(api_key="any", base_url=server.base_url, max_retries=0) as client:
        yield client


@pytest.fixture
def failing() -> Iterator[Failing]:
    """A client whose first request goes wrong."""
    with ExitStack() as stack:

        def connect(fault: Fault) -> OpenAI:
            server = stack.enter_context(OpenAIServer(reply, faults={0: fault}))
            return stack.enter_context(OpenAI(api_key="any", base_url=server.base_url, max_retries=0))

        yield connect


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    """The spans of a call, sync or async, without the root."""
    tracer = Tracer()
    tracer.init_worker(0)

    async def record(call: Callable[[], Any]) -> list[Span]:
        async with tracer.trace_context() as attempt:
            result = call()
            if hasattr(result, "__await__"):
                await result
        return attempt.spans[1:]

    yield record
    tracer.teardown_worker(0)
