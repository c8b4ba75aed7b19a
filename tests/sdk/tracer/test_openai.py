import asyncio
import gc
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest
from agentlightning.testing import ChatReply, ChatRequest, Fault, OpenAIServer
from agentlightning.tracer import Tracer, chat
from agentlightning.types import Span
from openai import AsyncOpenAI, OpenAI
from opentelemetry import trace
from pydantic import BaseModel

HELLO = [{"role": "user", "content": "Hello?"}]
LOOK = {
    "type": "function",
    "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {}}},
}
LOOKED = {"name": "look", "arguments": '{"at": "the sky"}'}


Recorded = Callable[[Callable[[], Any]], Awaitable[list[Span]]]
Failing = Callable[[Fault], OpenAI]


class Verdict(BaseModel):
    score: float


async def test_a_call_is_a_span_with_its_request_and_response(client: OpenAI, recorded: Recorded) -> None:
    (span,) = await recorded(
        lambda: client.chat.completions.create(
            model="m", messages=HELLO, temperature=0.5, max_tokens=9, user="me", stop=["."], seed=None
        )
    )
    attributes = dict(span.attributes)
    response_id = attributes.pop("gen_ai.response.id")
    assert response_id.startswith("chatcmpl-")
    assert (span.name, span.kind, span.status.status_code) == ("openai.chat.completion", "CLIENT", "OK")
    assert attributes == {
        "gen_ai.request.type": "chat",
        "gen_ai.system": "OpenAI",
        "gen_ai.request.model": "m",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.stop": ["."],
        "gen_ai.request.streaming": False,
        "gen_ai.user": "me",
        "gen_ai.prompt.0.role": "user",
        "gen_ai.prompt.0.content": "Hello?",
        "gen_ai.response.model": "m",
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": "It is blue.",
        "gen_ai.completion.0.finish_reason": "stop",
        "gen_ai.usage.prompt_tokens": 9,
        "gen_ai.usage.completion_tokens": 2,
        "gen_ai.usage.total_tokens": 11,
    }


async def test_an_async_call_is_recorded_the_same(client, async_client, recorded: Recorded) -> None:
    (sync,) = await recorded(lambda: client.chat.completions.create(model="m", messages=HELLO))
    (span,) = await recorded(lambda: async_client.chat.completions.create(model="m", messages=HELLO))
    del sync.attributes["gen_ai.response.id"], span.attributes["gen_ai.response.id"]
    assert span.attributes == sync.attributes


async def test_calls_of_tools_are_recorded_and_are_child_spans(client: OpenAI, recorded: Recorded) -> None:
    call, tool = await recorded(lambda: client.chat.completions.create(model="m", messages=HELLO, tools=[LOOK]))
    prefix = "gen_ai.completion.0.tool_calls.0"
    assert {key: call.attributes[f"{prefix}.{key}"] for key in LOOKED} == LOOKED
    assert (tool.name, tool.parent_id) == ("tool_call.look", call.span_id)
    assert tool.attributes == {
        "tool.name": "look",
        "tool.parameters": '{"at": "the sky"}',
        "tool.call.id": call.attributes[f"{prefix}.id"],
        "tool.call.type": "function",
    }


async def test_tools_on_offer_are_recorded(client: OpenAI, recorded: Recorded) -> None:
    call, _ = await recorded(lambda: client.chat.completions.create(model="m", messages=HELLO, tools=[LOOK]))
    prefix = "gen_ai.request.functions.0"
    assert call.attributes[f"{prefix}.name"] == "look"
    assert call.attributes[f"{prefix}.description"] == "Looks."
    assert json.loads(call.attributes[f"{prefix}.parameters"]) == LOOK["function"]["parameters"]


async def test_messages_that_are_objects_of_the_client_are_recorded(client: OpenAI, recorded: Recorded) -> None:
    message = client.chat.completions.create(model="m", messages=HELLO, tools=[LOOK]).choices[0].message
    as_dict = {"role": "assistant", "content": message.content, "tool_calls": message.tool_calls}
    answer = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "{}"}
    messages = [*HELLO, message, answer, as_dict, answer]
    (span,) = await recorded(lambda: client.chat.completions.create(model="m", messages=messages))
    for index in (1, 3):
        prefix = f"gen_ai.prompt.{index}"
        assert span.attributes[f"{prefix}.content"] == "Let me look."
        assert span.attributes[f"{prefix}.tool_calls.0.id"] == message.tool_calls[0].id
        assert span.attributes[f"{prefix}.tool_calls.0.arguments"] == LOOKED["arguments"]
    assert span.attributes["gen_ai.prompt.4.tool_call_id"] == message.tool_calls[0].id


async def test_messages_that_come_from_an_iterator_are_recorded_and_sent(client: OpenAI, recorded: Recorded) -> None:
    (span,) = await recorded(lambda: client.chat.completions.create(model="m", messages=iter(HELLO)))
    assert span.attributes["gen_ai.prompt.0.content"] == "Hello?"
    assert span.attributes["gen_ai.completion.0.content"] == "It is blue."


async def test_parts_of_a_content_are_recorded_as_json(client: OpenAI, recorded: Recorded) -> None:
    parts = [{"type": "text", "text": "Hello?"}]
    messages = [{"role": "user", "content": parts}]
    (span,) = await recorded(lambda: client.chat.completions.create(model="m", messages=messages))
    assert json.loads(span.attributes["gen_ai.prompt.0.content"]) == parts


@pytest.mark.parametrize("is_async", [False, True])
async def test_parse_is_recorded(client, async_client, recorded: Recorded, is_async: bool) -> None:
    messages = [{"role": "user", "content": "judge"}]
    completions = (async_client if is_async else client).chat.completions
    (span,) = await recorded(lambda: completions.parse(model="m", messages=messages, response_format=Verdict))
    assert span.attributes["gen_ai.completion.0.content"] == '{"score": 0.5}'


async def test_a_raw_response_is_recorded(client: OpenAI, recorded: Recorded) -> None:
    contents = []

    def call() -> None:
        raw = client.chat.completions.with_raw_response.create(model="m", messages=HELLO)
        contents.append(raw.parse().choices[0].message.content)

    (span,) = await recorded(call)
    assert contents == [span.attributes["gen_ai.completion.0.content"]] == ["It is blue."]


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_raw_response_that_is_a_stream_is_recorded(client, async_client, recorded: Recorded, is_async) -> None:
    api = (async_client if is_async else client).chat.completions.with_raw_response

    async def call() -> None:
        raw = api.create(model="m", messages=HELLO, stream=True)
        chunks = [chunk async for chunk in (await raw).parse()] if is_async else list(raw.parse())
        assert len(chunks) > 1

    (span,) = await recorded(call)
    assert span.attributes["gen_ai.completion.0.content"] == "It is blue."


@pytest.mark.parametrize("tools", [[], [LOOK]])
async def test_a_stream_is_recorded_as_the_whole_it_makes(client: OpenAI, recorded: Recorded, tools) -> None:
    options: dict[str, Any] = {"model": "m", "messages": HELLO, **({"tools": tools} if tools else {})}
    streaming = {"stream": True, "stream_options": {"include_usage": True}}
    whole, *_ = await recorded(lambda: client.chat.completions.create(**options))
    span, *children = await recorded(lambda: list(client.chat.completions.create(**options, **streaming)))
    assert span.attributes.pop("gen_ai.request.streaming")
    assert [child.name for child in children] == ["tool_call.look"] * len(tools)
    differing = {key for key in whole.attributes if whole.attributes[key] != span.attributes.get(key)}
    assert {key.rpartition(".")[2] for key in differing} <= {"streaming", "id"}


async def test_an_async_stream_is_recorded(async_client: AsyncOpenAI, recorded: Recorded) -> None:
    async def call() -> None:
        async for _ in await async_client.chat.completions.create(model="m", messages=HELLO, stream=True):
            pass

    (span,) = await recorded(call)
    assert span.attributes["gen_ai.completion.0.content"] == "It is blue."


async def test_the_streaming_helper_is_recorded(client: OpenAI, recorded: Recorded) -> None:
    def call() -> None:
        with client.chat.completions.stream(model="m", messages=HELLO) as stream:
            assert stream.get_final_completion().choices[0].message.content == "It is blue."

    (span,) = await recorded(call)
    assert span.attributes["gen_ai.completion.0.content"] == "It is blue."


async def test_a_stream_is_still_a_stream(client: OpenAI, recorded: Recorded) -> None:
    def call() -> None:
        with client.chat.completions.create(model="m", messages=HELLO, stream=True) as stream:
            assert isinstance(stream, openai.Stream)
            assert stream.response.status_code == 200

    await recorded(call)


async def test_a_stream_that_is_closed_early_is_recorded_so_far(client: OpenAI, recorded: Recorded) -> None:
    def call() -> None:
        with client.chat.completions.create(model="m", messages=HELLO, stream=True) as stream:
            next(stream)
            next(stream)

    (span,) = await recorded(call)
    assert span.attributes["gen_ai.completion.0.content"] == "It "


async def test_a_streaming_helper_that_is_left_early_is_recorded_so_far(client: OpenAI, recorded: Recorded) -> None:
    helpers = []

    def call() -> None:
        with client.chat.completions.stream(model="m", messages=HELLO) as stream:
            helpers.append(stream)  # It lives on, and with it what it reads from.
            assert next(event for event in stream if event.type == "content.delta").delta == "It "

    (span,) = await recorded(call)
    assert span.attributes["gen_ai.completion.0.content"] == "It "


async def test_the_async_streaming_helper_is_recorded(async_client: AsyncOpenAI, recorded: Recorded) -> None:
    async def call() -> None:
        async with async_client.chat.completions.stream(model="m", messages=HELLO) as stream:
            assert (await stream.get_final_completion()).choices[0].message.content == "It is blue."

    (span,) = await recorded(call)
    assert span.attributes["gen_ai.completion.0.content"] == "It is blue."


@pytest.mark.parametrize("is_streaming", [False, True])
@pytest.mark.parametrize("read", ["read", "parse", "iter_bytes", "iter_lines"])
async def test_a_response_that_is_read_as_it_comes_is_recorded(client, recorded: Recorded, read, is_streaming) -> None:
    def call() -> None:
        streamed = client.chat.completions.with_streaming_response
        with streamed.create(model="m", messages=HELLO, stream=is_streaming) as response:
            result = getattr(response, read)()
            if read.startswith("iter") or (is_streaming and read == "parse"):
                assert list(result)

    (span,) = await recorded(call)
    assert span.attributes["gen_ai.completion.0.content"] == "It is blue."
    assert span.status.status_code == "OK"


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_an_async_response_that_is_read_as_it_comes_is_recorded(async_client, recorded, is_streaming) -> None:
    async def call() -> None:
        streamed = async_client.chat.completions.with_streaming_response
        async with streamed.create(model="m", messages=HELLO, stream=is_streaming) as response:
            assert [line async for line in response.iter_lines()]

    (span,) = await recorded(call)
    assert span.attributes["gen_ai.completion.0.content"] == "It is blue."


async def test_a_response_that_nobody_reads_is_a_span_too(client: OpenAI, recorded: Recorded) -> None:
    def call() -> None:
        with client.chat.completions.with_streaming_response.create(model="m", messages=HELLO) as response:
            assert response.status_code == 200

    (span,) = await recorded(call)
    assert span.attributes["gen_ai.prompt.0.content"] == "Hello?"


async def test_a_stream_that_is_forgotten_is_recorded_so_far(client: OpenAI, recorded: Recorded) -> None:
    def call() -> None:
        next(client.chat.completions.create(model="m", messages=HELLO, stream=True))
        gc.collect()

    (span,) = await recorded(call)
    assert span.attributes["gen_ai.completion.0.role"] == "assistant"


async def test_an_async_stream_that_is_closed_early_is_recorded_so_far(async_client, recorded: Recorded) -> None:
    async def call() -> None:
        async with await async_client.chat.completions.create(model="m", messages=HELLO, stream=True) as stream:
            await anext(stream)
            await anext(stream)

    (span,) = await recorded(call)
    assert span.attributes["gen_ai.completion.0.content"] == "It "


@pytest.mark.parametrize("is_async", [False, True])
async def test_an_error_is_recorded_and_raised(client, async_client, recorded: Recorded, is_async: bool) -> None:
    completions = (async_client if is_async else client).chat.completions

    async def call() -> None:
        with pytest.raises(openai.BadRequestError):
            result = completions.create(model="m", messages=[{"role": "user", "content": "fail"}])
            await result

    (span,) = await recorded(call)
    assert span.status.status_code == "ERROR"
    assert span.events[0].attributes["exception.type"] == "openai.BadRequestError"
    assert span.attributes["gen_ai.prompt.0.content"] == "fail"


async def test_an_error_says_its_type_and_message(failing: Failing, recorded: Recorded) -> None:
    def call() -> None:
        with pytest.raises(openai.RateLimitError):
            failing(Fault(status=429)).chat.completions.create(model="m", messages=HELLO)

    (span,) = await recorded(call)
    assert span.status.description.startswith("RateLimitError: Error code: 429")
    assert span.events[0].attributes["exception.message"].startswith("Error code: 429")


async def test_tries_again_are_of_one_call(recorded: Recorded) -> None:
    faults = {0: Fault(status=500, retry_after=0.001)}
    with (
        OpenAIServer(lambda request: ChatReply("It is blue."), faults=faults) as server,
        OpenAI(api_key="any", base_url=server.base_url, max_retries=1) as client,
    ):
        (span,) = await recorded(lambda: client.chat.completions.create(model="m", messages=HELLO))
    assert span.status.status_code == "OK"


@pytest.mark.parametrize("is_helper", [False, True])
async def test_a_stream_that_breaks_off_is_an_error_with_what_came(failing, recorded: Recorded, is_helper) -> None:
    completions = failing(Fault(cut_after=2)).chat.completions

    def call() -> None:
        with pytest.raises(Exception, match=r"incomplete chunked read|Connection error"):
            if is_helper:
                with completions.stream(model="m", messages=HELLO) as stream:
                    stream.until_done()
            else:
                list(completions.create(model="m", messages=HELLO, stream=True))

    (span,) = await recorded(call)
    assert span.status.status_code == "ERROR"
    assert span.events[0].name == "exception"
    assert span.attributes["gen_ai.completion.0.content"] == "It "


async def test_an_answer_that_breaks_off_while_it_is_read_is_an_error(failing: Failing, recorded: Recorded) -> None:
    def call() -> None:
        streamed = failing(Fault(cut_after=0)).chat.completions.with_streaming_response
        with (
            pytest.raises(Exception, match=r"peer closed|Connection error"),
            streamed.create(model="m", messages=HELLO) as response,
        ):
            response.read()

    (span,) = await recorded(call)
    assert span.status.status_code == "ERROR"


async def test_a_call_that_is_cancelled_is_an_error(recorded: Recorded) -> None:
    asked, may_answer = threading.Event(), threading.Event()

    def answer(request: ChatRequest) -> ChatReply:
        asked.set()
        may_answer.wait()
        return ChatReply("It is blue.")

    async def call() -> None:
        async with AsyncOpenAI(api_key="any", base_url=server.base_url, max_retries=0) as client:
            task = asyncio.create_task(client.chat.completions.create(model="m", messages=HELLO))
            await asyncio.to_thread(asked.wait)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        may_answer.set()

    with OpenAIServer(answer) as server:
        (span,) = await recorded(call)
    assert span.status.status_code == "ERROR"
    assert span.events[0].attributes["exception.type"] == "asyncio.exceptions.CancelledError"


async def test_a_stream_that_is_cancelled_is_an_error_with_what_came(recorded: Recorded) -> None:
    chunk = json.dumps({"choices": [{"index": 0, "delta": {"content": "It "}}]}).encode()
    read = asyncio.Event()

    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}]")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: " + chunk + b"\n\n")
        await reader.read()
        writer.close()

    async def call() -> None:
        async def consume() -> None:
            async for _ in await client.chat.completions.create(model="m", messages=HELLO, stream=True):
                read.set()

        task = asyncio.create_task(consume())
        await read.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async with await asyncio.start_server(begin, "127.0.0.1", 0) as server:
        address = "http://{}:{}/v1".format(*server.sockets[0].getsockname())
        async with AsyncOpenAI(api_key="any", base_url=address, max_retries=0) as client:
            (span,) = await recorded(call)
    assert span.status.status_code == "ERROR"
    assert span.events[0].attributes["exception.type"] == "asyncio.exceptions.CancelledError"
    assert span.attributes["gen_ai.completion.0.content"] == "It "


@pytest.mark.parametrize("broken", ["request_attributes", "response_attributes", "plain"])
async def test_a_failure_to_record_does_not_reach_the_agent(client, recorded, monkeypatch, broken) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(chat, broken, fail)
    (span,) = await recorded(lambda: client.chat.completions.create(model="m", messages=HELLO))
    assert span.name == "openai.chat.completion"


async def test_a_request_that_is_no_object_is_sent_as_it_is(client: OpenAI, recorded: Recorded) -> None:
    def call() -> None:
        with pytest.raises(openai.BadRequestError):
            client.post("/chat/completions", body=["Hello?"], cast_to=object)

    assert await recorded(call) == []


async def test_what_is_sent_besides_the_known_parameters_is_recorded(client: OpenAI, recorded: Recorded) -> None:
    (span,) = await recorded(lambda: client.chat.completions.create(model="m", messages=HELLO, extra_body={"top_k": 5}))
    assert span.attributes["gen_ai.request.top_k"] == 5


async def test_a_call_within_the_call_is_a_child_of_it(client: OpenAI, recorded: Recorded, monkeypatch) -> None:
    send = client._client.send

    def traced_send(*args: Any, **options: Any) -> Any:
        with trace.get_tracer("http").start_as_current_span("POST"):
            return send(*args, **options)

    monkeypatch.setattr(client._client, "send", traced_send)
    call, post = await recorded(lambda: client.chat.completions.create(model="m", messages=HELLO))
    assert (post.name, post.parent_id) == ("POST", call.span_id)


async def test_fifty_rollouts_that_call_at_once_record_their_own_calls(client, async_client) -> None:
    def ask(api: OpenAI | AsyncOpenAI, rollout: str, **options: Any) -> Any:
        return api.chat.completions.create(model="m", messages=[{"role": "user", "content": rollout}], **options)

    async def run(rollout: str) -> list[Span]:
        async with tracer.trace_context(rollout_id=rollout, attempt_id=rollout) as attempt:
            stream, *_ = await asyncio.gather(
                ask(async_client, rollout, stream=True),
                ask(async_client, rollout),
                asyncio.to_thread(ask, client, rollout),
                asyncio.to_thread(lambda: list(ask(client, rollout, stream=True))),
            )
            assert [chunk async for chunk in stream]
        return attempt.spans[1:]

    tracer = Tracer()
    tracer.init_worker(0)
    rollouts = [f"ro-{number:02}" for number in range(50)]
    calls = await asyncio.gather(*map(run, rollouts))
    tracer.teardown_worker(0)
    assert [[span.attributes["gen_ai.prompt.0.content"] for span in spans] for spans in calls] == [
        [rollout] * 4 for rollout in rollouts
    ]
    assert {span.attributes["gen_ai.completion.0.content"] for spans in calls for span in spans} == {"It is blue."}


async def test_what_somebody_held_before_the_worker_began_is_recorded(client: OpenAI) -> None:
    raw, tracer = client.chat.completions.with_raw_response, Tracer()
    tracer.init_worker(0)
    async with tracer.trace_context() as attempt:
        raw.create(model="m", messages=HELLO)
    tracer.teardown_worker(0)
    assert [span.name for span in attempt.spans[1:]] == ["openai.chat.completion"]


def test_outside_of_a_rollout_nothing_is_recorded(client: OpenAI, recorded: Recorded) -> None:
    assert client.chat.completions.create(model="m", messages=HELLO).choices


def test_token_ids_of_servers_of_open_models_are_recorded() -> None:
    response = {"prompt_token_ids": [1, 2], "choices": [{"index": 0, "token_ids": [3], "message": {}}]}
    attributes = chat.response_attributes(response)
    assert (attributes["prompt_token_ids"], attributes["response_token_ids"]) == ([1, 2], [3])


def test_chunks_without_an_index_are_calls_of_their_own() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    chunks = [{"choices": [{"delta": {"tool_calls": [call, call]}}]}]
    assert chat.joined(chunks)["choices"][0]["message"]["tool_calls"] == [call, call]
