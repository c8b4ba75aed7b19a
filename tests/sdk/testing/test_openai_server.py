import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import openai
import pytest
from agentlightning.testing import ChatReply, ChatRequest, Fault, OpenAIServer
from openai import OpenAI
from pydantic import BaseModel

HELLO = [{"role": "user", "content": "Hello?"}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def reply(request: ChatRequest) -> ChatReply:
    """Calls every tool on offer; without any, says what it was asked and how often before."""
    if request.tools:
        calls = [(tool["function"]["name"], {"at": "the sky"}) for tool in request.tools]
        return ChatReply(tool_calls=calls)
    return ChatReply(f"{request.messages[-1]['content']} ({request.model}, {request.occurrence})")


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(reply) as server:
        yield server


@pytest.fixture
def client(server: OpenAIServer) -> Iterator[OpenAI]:
    with OpenAI(api_key="any", base_url=server.base_url, max_retries=0) as client:
        yield client


def raising(error: Exception) -> Callable[[ChatRequest], ChatReply]:
    def answer(request: ChatRequest) -> ChatReply:
        raise error

    return answer


def test_the_reply_is_what_the_function_answers(client: OpenAI) -> None:
    completion = client.chat.completions.create(model="m", messages=HELLO)
    assert completion.choices[0].message.content == "Hello? (m, 0)"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.model == "m"


async def test_an_async_client_gets_the_same_reply(server: OpenAIServer) -> None:
    async with openai.AsyncOpenAI(api_key="any", base_url=server.base_url) as client:
        completion = await client.chat.completions.create(model="m", messages=HELLO)
    assert completion.choices[0].message.content == "Hello? (m, 0)"


def test_tool_calls_carry_their_arguments_and_an_id_each(client: OpenAI) -> None:
    choice = client.chat.completions.create(model="m", messages=HELLO, tools=[TOOL, TOOL]).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert [call.function.name for call in choice.message.tool_calls] == ["look", "look"]
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"at": "the sky"}
    assert len({call.id for call in choice.message.tool_calls}) == 2


def test_a_reply_that_is_json_is_parsed_into_the_response_format() -> None:
    class Verdict(BaseModel):
        score: float

    with (
        OpenAIServer(lambda request: ChatReply('{"score": 0.5}')) as server,
        OpenAI(api_key="any", base_url=server.base_url) as client,
    ):
        completion = client.chat.completions.parse(model="m", messages=HELLO, response_format=Verdict)
    assert completion.choices[0].message.parsed == Verdict(score=0.5)


def test_a_stream_gives_the_same_text_in_pieces_and_the_usage_last(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model="m", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = list(stream)
    assert [chunk.choices[0].delta.content for chunk in chunks] == [None, "Hello? ", "(m, ", "0)", None]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert last.choices == [] and last.usage.total_tokens > 0


def test_a_stream_gives_tool_calls(client: OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="m", messages=HELLO, tools=[TOOL], stream=True))
    (call,) = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert (call.index, call.function.name) == (0, "look")
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_a_connection_serves_on_after_a_stream(client: OpenAI) -> None:
    list(client.chat.completions.create(model="m", messages=HELLO, stream=True))
    assert client.chat.completions.create(model="m", messages=HELLO).choices[0].message.content == "Hello? (m, 0)"


def test_usage_counts_a_token_for_four_characters(client: OpenAI) -> None:
    usage = client.chat.completions.create(model="m", messages=HELLO).usage
    assert usage.prompt_tokens == len(json.dumps(HELLO)) // 4
    assert usage.completion_tokens == len("Hello? (m, 0)") // 4
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_occurrence_counts_how_often_the_same_body_came_before(client: OpenAI) -> None:
    def ask(model: str) -> str:
        return client.chat.completions.create(model=model, messages=HELLO).choices[0].message.content

    assert [ask("m"), ask("other"), ask("m")] == ["Hello? (m, 0)", "Hello? (other, 0)", "Hello? (m, 1)"]


def test_two_servers_give_the_same_sequence_of_replies_with_the_same_ids() -> None:
    def ask_twice() -> list[openai.types.chat.ChatCompletion]:
        with OpenAIServer(reply) as server, OpenAI(api_key="any", base_url=server.base_url) as client:
            return [client.chat.completions.create(model="m", messages=HELLO, tools=[TOOL]) for _ in range(2)]

    first, second = ask_twice(), ask_twice()
    assert first == second
    assert first[0].id != first[1].id


def test_many_threads_see_each_occurrence_once(client: OpenAI) -> None:
    contents: list[str | None] = []

    def ask() -> None:
        contents.append(client.chat.completions.create(model="m", messages=HELLO).choices[0].message.content)

    threads = [threading.Thread(target=ask) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(contents) == sorted(f"Hello? (m, {occurrence})" for occurrence in range(40))


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (ValueError("no such date"), openai.BadRequestError, "no such date"),
        (LookupError("lost"), openai.InternalServerError, "LookupError: lost"),
    ],
)
def test_an_error_of_the_function_reaches_the_client_as_openai_puts_it(
    error: Exception, expected: type[openai.APIStatusError], message: str
) -> None:
    with (
        OpenAIServer(raising(error)) as server,
        OpenAI(api_key="any", base_url=server.base_url, max_retries=0) as client,
        pytest.raises(expected) as caught,
    ):
        client.chat.completions.create(model="m", messages=HELLO)
    assert caught.value.body["message"] == message


@pytest.mark.parametrize("path", ["chat/completions", "responses", "embeddings"])
@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b"{}", b'{"messages": "Hello?"}'])
def test_a_body_that_is_no_request_is_refused_and_the_connection_kept(
    server: OpenAIServer, path: str, body: bytes
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", int(server.base_url.split(":")[2].removesuffix("/v1")))
    for _ in range(2):
        connection.request("POST", f"/v1/{path}", body)
        response = connection.getresponse()
        assert response.status == 400
        assert json.load(response)["error"]["type"] == "invalid_request_error"
    connection.close()


def test_another_path_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.files.list()
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="m", prompt="Hello?")


def test_the_list_of_models_is_empty(client: OpenAI) -> None:
    assert client.models.list().data == []


def test_a_response_says_what_a_completion_would(client: OpenAI) -> None:
    response = client.responses.create(model="m", input="Hello?")
    assert response.output_text == "Hello? (m, 0)"
    assert response.status == "completed"
    assert response.usage.input_tokens == len(json.dumps(HELLO)) // 4
    assert response.usage.total_tokens == response.usage.input_tokens + len("Hello? (m, 0)") // 4


def test_the_function_reads_a_response_as_it_reads_a_completion() -> None:
    requests: list[ChatRequest] = []

    def answer(request: ChatRequest) -> ChatReply:
        requests.append(request)
        return ChatReply("Hello.")

    tool = {"type": "function", **TOOL["function"]}
    call = {"type": "function_call", "call_id": "1", "name": "look", "arguments": "{}"}
    items = [*HELLO, call, {"type": "function_call_output", "call_id": "1", "output": "blue"}]
    with OpenAIServer(answer) as server, OpenAI(api_key="any", base_url=server.base_url) as client:
        client.responses.create(model="m", instructions="Be brief.", input=items, tools=[tool])
    (request,) = requests
    called = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    assert request.messages == [
        {"role": "system", "content": "Be brief."},
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "1", "content": "blue"},
    ]
    assert request.tools == [TOOL]


def test_a_response_calls_tools(client: OpenAI) -> None:
    tool = {"type": "function", **TOOL["function"]}
    (call,) = client.responses.create(model="m", input="Hello?", tools=[tool]).output
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "look", {"at": "the sky"})


def test_a_streamed_response_grows_to_the_response() -> None:
    def answer(request: ChatRequest) -> ChatReply:
        return ChatReply("Let me look.", [("look", {"at": "the sky"})])

    with (
        OpenAIServer(answer) as server,
        OpenAI(api_key="any", base_url=server.base_url) as client,
        client.responses.stream(model="m", input="Hello?") as stream,
    ):
        deltas = [event.delta for event in stream if event.type.endswith(".delta")]
        final = stream.get_final_response()
    assert deltas == ["Let ", "me ", "look.", '{"at": "the sky"}']
    assert final.output_text == "Let me look."
    assert final.output[1].name == "look"


def test_a_response_that_is_json_is_parsed_into_the_text_format() -> None:
    class Verdict(BaseModel):
        score: float

    with (
        OpenAIServer(lambda request: ChatReply('{"score": 0.5}')) as server,
        OpenAI(api_key="any", base_url=server.base_url) as client,
    ):
        response = client.responses.parse(model="m", input="Hello?", text_format=Verdict)
    assert response.output_parsed == Verdict(score=0.5)


def test_an_embedding_is_a_direction_that_the_text_decides(client: OpenAI) -> None:
    first, again, other = client.embeddings.create(model="m", input=["a", "a", "b"]).data
    assert first.embedding == again.embedding != other.embedding
    assert sum(number**2 for number in first.embedding) == pytest.approx(1)


@pytest.mark.parametrize("asked", ["Hello?", [1, 2], ["Hello?"], [[1, 2]]])
def test_embeddings_are_of_a_text_of_tokens_or_of_several(client: OpenAI, asked) -> None:
    assert len(client.embeddings.create(model="m", input=asked).data) == 1


def test_an_embedding_has_the_dimensions_and_the_encoding_asked_for(client: OpenAI) -> None:
    (as_floats,) = client.embeddings.create(model="m", input="a", dimensions=3, encoding_format="float").data
    (as_base64,) = client.embeddings.create(model="m", input="a", dimensions=3).data
    assert len(as_floats.embedding) == 3
    assert as_base64.embedding == pytest.approx(as_floats.embedding)


@pytest.fixture
def failing() -> Iterator[Callable[..., OpenAI]]:
    """A client of a server with faults."""
    with ExitStack() as stack:

        def connect(faults: dict[int, Fault], **options: Any) -> OpenAI:
            server = stack.enter_context(OpenAIServer(reply, faults=faults))
            options = {"max_retries": 0, **options}
            return stack.enter_context(OpenAI(api_key="any", base_url=server.base_url, **options))

        yield connect


Failing = Callable[..., OpenAI]


@pytest.mark.parametrize(
    ("status", "expected"),
    [(429, openai.RateLimitError), (401, openai.AuthenticationError), (500, openai.InternalServerError)],
)
def test_the_request_of_a_number_is_refused_as_told(failing: Failing, status: int, expected: type[Exception]) -> None:
    client = failing({1: Fault(status=status)})
    assert client.responses.create(model="m", input="Hello?").output_text
    with pytest.raises(expected):
        client.chat.completions.create(model="m", messages=HELLO)
    assert client.chat.completions.create(model="m", messages=HELLO).choices


def test_a_refused_client_tries_again_when_it_is_told_to(failing: Failing) -> None:
    client = failing({0: Fault(status=429, retry_after=0.001)}, max_retries=1)
    assert client.chat.completions.create(model="m", messages=HELLO).choices[0].message.content == "Hello? (m, 1)"


def test_the_function_is_not_asked_for_what_is_refused() -> None:
    asked: list[int] = []

    def answer(request: ChatRequest) -> ChatReply:
        asked.append(request.number)
        return ChatReply("Hello.")

    with (
        OpenAIServer(answer, faults={0: Fault(status=500, retry_after=0.001)}) as server,
        OpenAI(api_key="any", base_url=server.base_url, max_retries=1) as client,
    ):
        client.chat.completions.create(model="m", messages=HELLO)
    assert asked == [1]


def test_a_slow_answer_runs_into_the_clients_timeout_and_does_not_hold_up_the_end(failing: Failing) -> None:
    client = failing({0: Fault(delay=3600)}, timeout=0.05)
    with pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model="m", messages=HELLO)


def test_a_stream_is_cut_off_after_some_events(failing: Failing) -> None:
    contents: list[str | None] = []
    stream = failing({0: Fault(cut_after=2)}).chat.completions.create(model="m", messages=HELLO, stream=True)
    with pytest.raises(Exception, match=r"incomplete chunked read|Connection error"):
        contents.extend(chunk.choices[0].delta.content for chunk in stream)
    assert contents == [None, "Hello? "]


def test_an_answer_that_is_no_stream_is_cut_off_halfway(failing: Failing) -> None:
    with pytest.raises(openai.APIConnectionError):
        failing({0: Fault(cut_after=0)}).chat.completions.create(model="m", messages=HELLO)


def test_stopping_closes_idle_connections_and_ends_every_thread() -> None:
    before = set(threading.enumerate())
    server = OpenAIServer(reply)
    server.start()
    with OpenAI(api_key="any", base_url=server.base_url, max_retries=0) as client:
        client.chat.completions.create(model="m", messages=HELLO)
        server.stop()
        assert set(threading.enumerate()) <= before
        with pytest.raises(openai.APIConnectionError):
            client.chat.completions.create(model="m", messages=HELLO)


def test_stopping_lets_a_reply_under_way_arrive() -> None:
    asked, may_answer = threading.Event(), threading.Event()

    def answer(request: ChatRequest) -> ChatReply:
        asked.set()
        may_answer.wait()
        return ChatReply("late")

    contents = []
    server = OpenAIServer(answer)
    server.start()
    with OpenAI(api_key="any", base_url=server.base_url, max_retries=0) as client:

        def ask() -> None:
            contents.append(client.chat.completions.create(model="m", messages=HELLO).choices[0].message.content)

        asking = threading.Thread(target=ask)
        asking.start()
        asked.wait()
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        may_answer.set()
        asking.join()
        stopping.join()
    assert contents == ["late"]


def test_a_server_starts_again_on_a_port_that_was_just_used() -> None:
    with OpenAIServer(reply) as server, OpenAI(api_key="any", base_url=server.base_url) as client:
        client.chat.completions.create(model="m", messages=HELLO)
        port = int(server.base_url.split(":")[2].removesuffix("/v1"))
    with OpenAIServer(reply, port) as server, OpenAI(api_key="any", base_url=server.base_url) as client:
        assert client.chat.completions.create(model="m", messages=HELLO).choices


def test_no_call_waits_for_a_delayed_acknowledgement(client: OpenAI) -> None:
    client.chat.completions.create(model="m", messages=HELLO)
    start = time.perf_counter()
    for _ in range(50):
        client.chat.completions.create(model="m", messages=HELLO)
    assert time.perf_counter() - start < 50 * 0.02, "Linux delays an acknowledgement for 40 ms"
