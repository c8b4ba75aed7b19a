import json
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest
from agentlightning.testing import Fault
from agentlightning.tracer import responses
from agentlightning.types import Span
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

LOOK = {"type": "function", "name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {}}}
LOOKED = {"name": "look", "arguments": '{"at": "the sky"}'}

Recorded = Callable[[Callable[[], Any]], Awaitable[list[Span]]]
Failing = Callable[[Fault], OpenAI]


class Verdict(BaseModel):
    score: float


def prompts(asked: Any, **request: Any) -> dict[str, Any]:
    """What is recorded of an input, as the attributes under `gen_ai.prompt.`."""
    attributes = responses.request_attributes({"model": "m", "input": asked, **request})
    prefix = "gen_ai.prompt."
    return {name.removeprefix(prefix): value for name, value in attributes.items() if name.startswith(prefix)}


def completion(*output: dict[str, Any], **response: Any) -> dict[str, Any]:
    """What is recorded of an output, as the attributes under `gen_ai.completion.0.`."""
    attributes = responses.response_attributes({"status": "completed", "output": list(output), **response})
    prefix = "gen_ai.completion.0."
    return {name.removeprefix(prefix): value for name, value in attributes.items() if name.startswith(prefix)}


async def test_a_response_is_a_span_with_its_request_and_answer(client: OpenAI, recorded: Recorded) -> None:
    (span,) = await recorded(
        lambda: client.responses.create(
            model="m", instructions="Be brief.", input="Hello?", temperature=0.5, max_output_tokens=9, user="me"
        )
    )
    attributes = dict(span.attributes)
    assert attributes.pop("gen_ai.response.id").startswith("resp_")
    assert (span.name, span.kind, span.status.status_code) == ("openai.response", "CLIENT", "OK")
    assert attributes == {
        "gen_ai.request.type": "chat",
        "gen_ai.system": "OpenAI",
        "gen_ai.request.model": "m",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.streaming": False,
        "gen_ai.user": "me",
        "gen_ai.prompt.0.role": "system",
        "gen_ai.prompt.0.content": "Be brief.",
        "gen_ai.prompt.1.role": "user",
        "gen_ai.prompt.1.content": "Hello?",
        "gen_ai.response.model": "m",
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": "It is blue.",
        "gen_ai.completion.0.finish_reason": "stop",
        "gen_ai.usage.prompt_tokens": 20,
        "gen_ai.usage.completion_tokens": 2,
        "gen_ai.usage.total_tokens": 22,
        "gen_ai.usage.reasoning_tokens": 0,
    }


async def test_an_async_response_is_recorded_the_same(client, async_client, recorded: Recorded) -> None:
    (sync,) = await recorded(lambda: client.responses.create(model="m", input="Hello?"))
    (span,) = await recorded(lambda: async_client.responses.create(model="m", input="Hello?"))
    del sync.attributes["gen_ai.response.id"], span.attributes["gen_ai.response.id"]
    assert span.attributes == sync.attributes


async def test_calls_of_tools_are_recorded_and_are_child_spans(client: OpenAI, recorded: Recorded) -> None:
    call, tool = await recorded(lambda: client.responses.create(model="m", input="Hello?", tools=[LOOK]))
    prefix = "gen_ai.completion.0.tool_calls.0"
    assert {key: call.attributes[f"{prefix}.{key}"] for key in LOOKED} == LOOKED
    assert call.attributes["gen_ai.completion.0.content"] == "Let me look."
    assert call.attributes["gen_ai.completion.0.finish_reason"] == "tool_calls"
    assert call.attributes["gen_ai.request.functions.0.name"] == "look"
    assert (tool.name, tool.parent_id) == ("tool_call.look", call.span_id)
    assert tool.attributes["tool.call.id"] == call.attributes[f"{prefix}.id"]


async def test_a_turn_of_objects_of_the_client_is_one_message(client: OpenAI, recorded: Recorded) -> None:
    output = client.responses.create(model="m", input="Hello?", tools=[LOOK]).output
    answer = {"type": "function_call_output", "call_id": output[1].call_id, "output": "{}"}
    asked = [{"role": "user", "content": "Hello?"}, *output, answer]
    (span,) = await recorded(lambda: client.responses.create(model="m", input=asked))
    assert span.attributes["gen_ai.prompt.1.role"] == "assistant"
    assert span.attributes["gen_ai.prompt.1.content"] == "Let me look."
    assert span.attributes["gen_ai.prompt.1.tool_calls.0.arguments"] == LOOKED["arguments"]
    assert span.attributes["gen_ai.prompt.2.role"] == "tool"
    assert span.attributes["gen_ai.prompt.2.tool_call_id"] == output[1].call_id


@pytest.mark.parametrize("is_async", [False, True])
async def test_parse_is_recorded(client, async_client, recorded: Recorded, is_async: bool) -> None:
    api = (async_client if is_async else client).responses
    (span,) = await recorded(lambda: api.parse(model="m", input="judge", text_format=Verdict))
    assert span.attributes["gen_ai.completion.0.content"] == '{"score": 0.5}'


@pytest.mark.parametrize("tools", [[], [LOOK]])
async def test_a_stream_is_recorded_as_the_whole_it_makes(client: OpenAI, recorded: Recorded, tools) -> None:
    options: dict[str, Any] = {"model": "m", "input": "Hello?", **({"tools": tools} if tools else {})}
    whole, *_ = await recorded(lambda: client.responses.create(**options))
    span, *children = await recorded(lambda: list(client.responses.create(**options, stream=True)))
    assert span.attributes.pop("gen_ai.request.streaming")
    assert [child.name for child in children] == ["tool_call.look"] * len(tools)
    differing = {key for key in whole.attributes if whole.attributes[key] != span.attributes.get(key)}
    assert {key.rpartition(".")[2] for key in differing} <= {"streaming", "id"}


async def test_an_async_stream_is_recorded(async_client: AsyncOpenAI, recorded: Recorded) -> None:
    async def call() -> None:
        async for _ in await async_client.responses.create(model="m", input="Hello?", stream=True):
            pass

    (span,) = await recorded(call)
    assert span.attributes["gen_ai.completion.0.content"] == "It is blue."


async def test_the_streaming_helper_is_recorded(client: OpenAI, recorded: Recorded) -> None:
    def call() -> None:
        with client.responses.stream(model="m", input="Hello?") as stream:
            assert stream.get_final_response().output_text == "It is blue."

    (span,) = await recorded(call)
    assert span.attributes["gen_ai.completion.0.content"] == "It is blue."


async def test_a_streaming_helper_that_is_left_early_is_recorded_so_far(async_client, recorded: Recorded) -> None:
    helpers = []

    async def call() -> None:
        async with async_client.responses.stream(model="m", input="Hello?") as stream:
            helpers.append(stream)  # It lives on, and with it what it reads from.
            async for event in stream:
                if event.type == "response.output_text.delta":
                    break

    (span,) = await recorded(call)
    assert span.attributes["gen_ai.completion.0.content"] == "It "
    assert "gen_ai.completion.0.finish_reason" not in span.attributes


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_a_response_that_is_read_as_it_comes_is_recorded(client, recorded: Recorded, is_streaming) -> None:
    def call() -> None:
        streamed = client.responses.with_streaming_response
        with streamed.create(model="m", input="Hello?", stream=is_streaming) as response:
            assert list(response.iter_lines())

    (span,) = await recorded(call)
    assert span.attributes["gen_ai.completion.0.content"] == "It is blue."


async def test_a_raw_response_is_recorded(client: OpenAI, recorded: Recorded) -> None:
    (span,) = await recorded(lambda: client.responses.with_raw_response.create(model="m", input="Hello?"))
    assert span.attributes["gen_ai.completion.0.content"] == "It is blue."


async def test_a_stream_that_breaks_off_is_an_error_with_what_came(failing: Failing, recorded: Recorded) -> None:
    def call() -> None:
        with pytest.raises(Exception, match=r"incomplete chunked read|Connection error"):
            list(failing(Fault(cut_after=4)).responses.create(model="m", input="Hello?", stream=True))

    (span,) = await recorded(call)
    assert span.status.status_code == "ERROR"
    assert span.attributes["gen_ai.completion.0.content"] == "It "


async def test_an_error_is_recorded_and_raised(client: OpenAI, recorded: Recorded) -> None:
    def call() -> None:
        with pytest.raises(openai.BadRequestError):
            client.responses.create(model="m", input="fail")

    (span,) = await recorded(call)
    assert span.status.status_code == "ERROR"
    assert span.events[0].attributes["exception.type"] == "openai.BadRequestError"
    assert span.attributes["gen_ai.prompt.0.content"] == "fail"


async def test_a_response_that_failed_is_an_error(client: OpenAI, recorded: Recorded, monkeypatch) -> None:
    failed = {"status": "failed", "error": {"code": "server_error", "message": "It burns."}, "output": []}
    monkeypatch.setattr(responses, "plain", lambda response: failed)
    (span,) = await recorded(lambda: client.responses.create(model="m", input="Hello?"))
    assert (span.status.status_code, span.status.description) == ("ERROR", "server_error: It burns.")


async def test_other_calls_of_the_responses_api_are_no_calls_of_a_model(client: OpenAI, recorded: Recorded) -> None:
    def call() -> None:
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve("resp_1")

    assert await recorded(call) == []


def test_parts_are_recorded_as_those_of_a_chat() -> None:
    text, image = {"type": "input_text", "text": "What is it?"}, {"type": "input_image", "image_url": "data:,"}
    file = {"type": "input_file", "file_id": "1"}
    recorded = prompts([{"role": "user", "content": [text, image, file]}])
    assert json.loads(recorded["0.content"]) == [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "data:,"}},
        file,
    ]


def test_a_single_text_is_recorded_as_text() -> None:
    content = [{"type": "input_text", "text": "Hello?"}]
    assert prompts([{"role": "user", "content": content}]) == {"0.role": "user", "0.content": "Hello?"}


def test_thoughts_text_and_calls_of_a_turn_are_one_message() -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "I should look."}]}
    text = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me."}]}
    call = {"type": "function_call", "call_id": "1", **LOOKED}
    turn = {
        "role": "assistant",
        "reasoning_content": "I should look.",
        "content": "Let me.",
        "tool_calls.0.id": "1",
        "tool_calls.0.name": "look",
        "tool_calls.0.arguments": LOOKED["arguments"],
        "tool_calls.1.id": "2",
        "tool_calls.1.name": "look",
        "tool_calls.1.arguments": LOOKED["arguments"],
    }
    items = [thought, text, call, call | {"call_id": "2"}]
    assert prompts(items) == {f"0.{name}": value for name, value in turn.items()}
    assert completion(*items) == {**turn, "finish_reason": "tool_calls"}


def test_turns_stay_apart() -> None:
    assert prompts([{"role": "assistant", "content": "One."}, {"role": "assistant", "content": "Two."}]) == {
        "0.role": "assistant",
        "0.content": "One.",
        "1.role": "assistant",
        "1.content": "Two.",
    }


def test_a_tool_that_the_models_server_runs_is_recorded_as_a_call() -> None:
    recorded = completion({"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"query": "sky"}})
    assert recorded["tool_calls.0.type"] == recorded["tool_calls.0.name"] == "web_search_call"
    assert json.loads(recorded["tool_calls.0.arguments"]) == {"action": {"query": "sky"}}


def test_a_custom_tools_call_is_recorded_with_its_input() -> None:
    call = {"type": "custom_tool_call", "call_id": "1", "name": "look", "input": "up"}
    recorded = completion(call)
    assert (recorded["tool_calls.0.type"], recorded["tool_calls.0.arguments"]) == ("custom", "up")


def test_an_item_that_is_not_known_is_kept_as_json() -> None:
    item = {"type": "item_reference", "id": "msg_1"}
    assert json.loads(prompts([item])["0.content"]) == item


def test_a_refusal_is_recorded() -> None:
    refusing = {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    assert completion(refusing)["refusal"] == "No."


def test_an_answer_that_was_too_long_says_so_as_a_chat_does() -> None:
    text = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "It"}]}
    recorded = completion(text, status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    assert recorded["finish_reason"] == "length"


def test_probabilities_of_tokens_are_recorded() -> None:
    part = {"type": "output_text", "text": "It", "logprobs": [{"token": "It", "logprob": -0.5}]}
    attributes = responses.response_attributes({"output": [{"type": "message", "content": [part]}]})
    assert json.loads(attributes["logprobs.content"]) == part["logprobs"]
