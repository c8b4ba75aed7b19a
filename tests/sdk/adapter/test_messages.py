from typing import Any

from agentlightning.adapter import TraceToMessages
from agentlightning.types import Span

USER = {"gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": "Which room?"}
ANSWER = {"gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.content": "A103"}
LOOK = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
LOOK_ATTRIBUTES = {"id": "call_1", "name": "look", "arguments": '{"at": 1}'}


def a_span(attributes: dict[str, Any], **fields: Any) -> Span:
    return Span.from_attributes(attributes=attributes, **fields)


def prefixed(prefix: str, attributes: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}.{key}": value for key, value in attributes.items()}


def messages_of(*spans: Span) -> list[dict[str, Any]]:
    (conversation,) = TraceToMessages().adapt(spans)
    return conversation["messages"]


def test_no_spans_give_no_conversations() -> None:
    assert TraceToMessages().adapt([]) == []


def test_a_call_of_a_model_is_its_prompt_and_its_answer() -> None:
    assert TraceToMessages().adapt([a_span(USER | ANSWER)]) == [
        {
            "messages": [{"role": "user", "content": "Which room?"}, {"role": "assistant", "content": "A103"}],
            "tools": None,
        }
    ]


def test_calls_come_in_the_order_of_their_spans_and_other_spans_give_none() -> None:
    spans = [a_span({"gen_ai.prompt.0.content": str(index)} if index % 2 else {"x": 1}) for index in range(6)]
    conversations = TraceToMessages().adapt(spans)
    assert [conversation["messages"][0]["content"] for conversation in conversations] == ["1", "3", "5"]


def test_an_adapter_can_be_called() -> None:
    assert len(TraceToMessages()([a_span(USER)])) == 1


def test_messages_are_in_numeric_order() -> None:
    attributes = {f"gen_ai.prompt.{index}.content": str(index) for index in reversed(range(12))}
    assert [message["content"] for message in messages_of(a_span(attributes))] == list(map(str, range(12)))


def test_text_beside_calls_of_tools_is_kept() -> None:
    prompt = {"role": "assistant", "content": "Let me look.", **prefixed("tool_calls.0", LOOK_ATTRIBUTES)}
    assert messages_of(a_span(prefixed("gen_ai.prompt.0", prompt))) == [
        {"role": "assistant", "content": "Let me look.", "tool_calls": [LOOK]}
    ]


def test_an_answer_that_only_calls_tools_has_no_content() -> None:
    attributes = {"gen_ai.completion.0.role": "assistant"} | prefixed(
        "gen_ai.completion.0.tool_calls.0", LOOK_ATTRIBUTES
    )
    assert messages_of(a_span(attributes)) == [{"role": "assistant", "content": None, "tool_calls": [LOOK]}]


def test_calls_of_tools_that_are_only_recorded_as_child_spans_are_found() -> None:
    call = a_span(ANSWER)
    tool = {"tool.name": "look", "tool.parameters": '{"at": 1}', "tool.call.id": "call_1", "tool.call.type": "function"}
    assert messages_of(call, a_span(tool, parent_id=call.span_id))[-1]["tool_calls"] == [LOOK]


def test_calls_of_tools_that_are_recorded_twice_are_given_once() -> None:
    call = a_span(prefixed("gen_ai.completion.0.tool_calls.0", LOOK_ATTRIBUTES))
    tool = {"tool.name": "look", "tool.call.id": "call_1"}
    assert messages_of(call, a_span(tool, parent_id=call.span_id))[-1]["tool_calls"] == [LOOK]


def test_a_call_of_a_custom_tool_keeps_its_kind() -> None:
    attributes = prefixed("gen_ai.completion.0.tool_calls.0", {**LOOK_ATTRIBUTES, "type": "custom"})
    assert messages_of(a_span(attributes))[-1]["tool_calls"] == [
        {"id": "call_1", "type": "custom", "custom": {"name": "look", "input": '{"at": 1}'}}
    ]


def test_the_answer_of_a_tool_keeps_what_it_answers() -> None:
    prompt = {"role": "tool", "content": "{}", "tool_call_id": "call_1", "name": "look"}
    assert messages_of(a_span(prefixed("gen_ai.prompt.0", prompt))) == [prompt]


def test_parts_of_a_content_are_parts_again() -> None:
    prompt = {"role": "user", "content": '[{"type": "text", "text": "hi"}]'}
    assert messages_of(a_span(prefixed("gen_ai.prompt.0", prompt)))[0]["content"] == [{"type": "text", "text": "hi"}]


def test_text_that_looks_like_json_stays_text() -> None:
    for text in ["[{]", '[{"a": 1}]', "[1]", "{}"]:
        assert messages_of(a_span({"gen_ai.prompt.0.content": text}))[0]["content"] == text


def test_unknown_parts_of_a_message_are_kept() -> None:
    assert messages_of(a_span({"gen_ai.completion.0.reasoning_content": "hm"} | ANSWER))[0]["reasoning_content"] == "hm"


def test_what_belongs_to_the_choice_is_not_part_of_the_message() -> None:
    assert messages_of(a_span({"gen_ai.completion.0.finish_reason": "stop"} | ANSWER)) == [
        {"role": "assistant", "content": "A103"}
    ]


def test_a_message_without_role_and_content_gets_both() -> None:
    assert messages_of(a_span({"gen_ai.prompt.0.name": "x"})) == [{"role": "user", "content": "", "name": "x"}]


def test_malformed_attributes_raise_nothing() -> None:
    attributes = {
        "gen_ai.prompt.0": "flat",
        "gen_ai.prompt.0.role": "user",
        "gen_ai.prompt.prompt_filter_results": "[]",
        "gen_ai.prompt.0.tool_calls.0.type": ["no", "name"],
        "gen_ai.completion.x": 1,
        "gen_ai.request.functions.0": 1,
        "gen_ai.request.functions.1.type.x": "no name",
    }
    assert messages_of(a_span(attributes))[0]["role"] == "user"


def test_tools_are_given_with_their_parameters_decoded() -> None:
    function = {"name": "look", "description": "Looks.", "parameters": '{"type": "object"}'}
    (conversation,) = TraceToMessages().adapt([a_span(USER | prefixed("gen_ai.request.functions.0", function))])
    assert conversation["tools"] == [{"type": "function", "function": {**function, "parameters": {"type": "object"}}}]
