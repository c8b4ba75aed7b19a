"""The spellings of OpenTelemetry's GenAI conventions, read by `TraceToMessages`."""

import json
from typing import Any

import pytest
from agentlightning import Event, Span, TraceToMessages

TEXT = {"type": "text", "content": "Which room?"}
CALL = {"type": "tool_call", "id": "call_1", "name": "look", "arguments": {"at": 1}}
LOOK = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}


def conversation_of(events: list[Event] | None = None, **attributes: Any) -> Any:
    named = {"gen_ai.operation.name": "chat"}
    named |= {
        f"gen_ai.{name.replace('__', '.')}": value if isinstance(value, str) else json.dumps(value)
        for name, value in attributes.items()
    }
    span = Span.from_attributes(attributes=named, name="chat gpt-4")
    span.events = events or []
    (conversation,) = TraceToMessages().adapt([span])
    return conversation


def message_of(*parts: Any, role: str = "user") -> Any:
    (message,) = conversation_of(input__messages=[{"role": role, "parts": parts}])["messages"]
    return message


def test_question_and_answer_are_read_from_json() -> None:
    answer = {"role": "assistant", "parts": [{"type": "text", "content": "A103"}], "finish_reason": "stop"}
    conversation = conversation_of(input__messages=[{"role": "user", "parts": [TEXT]}], output__messages=[answer])
    assert conversation["messages"] == [
        {"role": "user", "content": "Which room?"},
        {"role": "assistant", "content": "A103"},
    ]


def test_an_empty_text_is_a_text() -> None:
    assert message_of({"type": "text", "content": ""})["content"] == ""


def test_instructions_are_the_first_message() -> None:
    conversation = conversation_of(
        input__messages=[{"role": "user", "parts": [TEXT]}],
        system_instructions=[{"type": "text", "content": "Be brief."}],
    )
    assert conversation["messages"][0] == {"role": "system", "content": "Be brief."}


def test_a_call_of_a_tool_has_its_arguments_in_json() -> None:
    assert message_of(TEXT, CALL, role="assistant") == {
        "role": "assistant",
        "content": "Which room?",
        "tool_calls": [LOOK],
    }


def test_each_answer_of_a_tool_is_a_message() -> None:
    answers = [
        {"type": "tool_call_response", "id": f"call_{index}", "response": {"free": index} if index else "none"}
        for index in range(2)
    ]
    assert conversation_of(input__messages=[{"role": "tool", "parts": answers}])["messages"] == [
        {"role": "tool", "tool_call_id": "call_0", "content": "none"},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"free": 1}'},
    ]


def test_reasoning_stands_beside_the_content() -> None:
    thought = {"type": "reasoning", "content": "Hm."}
    assert message_of(thought, TEXT, role="assistant") == {
        "role": "assistant",
        "content": "Which room?",
        "reasoning_content": "Hm.",
    }


def test_images_are_parts_as_openai_writes_them() -> None:
    linked = {"type": "uri", "modality": "image", "uri": "https://example.com/room.png"}
    inline = {"type": "blob", "modality": "image", "mime_type": "image/jpeg", "content": "aGk="}
    assert message_of(TEXT, linked, inline)["content"] == [
        {"type": "text", "text": "Which room?"},
        {"type": "image_url", "image_url": {"url": "https://example.com/room.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,aGk="}},
    ]


def test_unknown_parts_and_fields_are_kept() -> None:
    telepathy = {"type": "telepathy", "strength": 3}
    messages = [{"role": "user", "name": "ann", "parts": [telepathy]}]
    assert conversation_of(input__messages=messages)["messages"] == [
        {"role": "user", "name": "ann", "content": [telepathy]}
    ]


def test_messages_that_openai_would_write_are_left_alone() -> None:
    message = {"role": "assistant", "content": "Let me look.", "tool_calls": [LOOK]}
    assert conversation_of(input__messages=[message])["messages"] == [message]


@pytest.mark.parametrize(
    "definition",
    [
        {"type": "function", "name": "look", "parameters": {"type": "object"}},
        {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}},
    ],
)
def test_tools_are_read(definition: Any) -> None:
    conversation = conversation_of(input__messages=[{"parts": [TEXT]}], tool__definitions=[definition])
    assert conversation["tools"] == [
        {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    ]


def test_one_event_a_message_is_read() -> None:
    events = [
        Event(name="gen_ai.system.message", attributes={"content": "Be brief."}),
        Event(name="gen_ai.user.message", attributes={"gen_ai.event.content": '{"content": "Which room?"}'}),
        Event(name="gen_ai.assistant.message", attributes={"tool_calls": json.dumps([LOOK])}),
        Event(name="gen_ai.tool.message", attributes={"id": "call_1", "content": "free"}),
        Event(name="gen_ai.choice", attributes={"index": 0, "message": '{"content": "A103"}', "finish_reason": "stop"}),
    ]
    assert conversation_of(events)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Which room?"},
        {"role": "assistant", "content": None, "tool_calls": [LOOK]},
        {"role": "tool", "tool_call_id": "call_1", "content": "free"},
        {"role": "assistant", "content": "A103"},
    ]


def test_messages_kept_in_an_event_of_the_details_are_read() -> None:
    attributes = {"gen_ai.input.messages": json.dumps([{"role": "user", "parts": [TEXT]}])}
    event = Event(name="gen_ai.client.inference.operation.details", attributes=attributes)
    assert conversation_of([event])["messages"] == [{"role": "user", "content": "Which room?"}]


@pytest.mark.parametrize(
    "malformed",
    ["", "{", "null", "7", '"x"', "[null]", '[{"parts": 3}]', '[{"parts": [1]}]', '[{"parts": [{"type": "text"}]}]'],
)
def test_malformed_messages_raise_nothing(malformed: str) -> None:
    attributes = dict.fromkeys(
        ["input.messages", "output.messages", "system_instructions", "tool.definitions", "prompt.0.content"], malformed
    )
    span = Span.from_attributes(attributes={f"gen_ai.{name}": value for name, value in attributes.items()})
    span.events = [Event(name="gen_ai.choice", attributes={"message": malformed, "index": malformed})]
    assert len(TraceToMessages().adapt([span])) == 1


@pytest.mark.parametrize("operation", ["embeddings", "invoke_agent", "execute_tool"])
def test_other_operations_are_no_calls_of_a_model(operation: str) -> None:
    attributes = {"gen_ai.operation.name": operation, "gen_ai.request.model": "m", "gen_ai.prompt.0.content": "x"}
    assert TraceToMessages().explain([Span.from_attributes(attributes=attributes)]) == []
