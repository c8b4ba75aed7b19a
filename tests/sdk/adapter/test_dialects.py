"""Calls of models in names that are not those of the GenAI conventions: what only some spell so, and what is no call.

Whole conversations in each of them, by way of OTLP, are in `tests/examples/test_foreign_runner.py`.
"""

import json
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.adapter import Usage, usage_by_model


def messages_of(**attributes: Any) -> list[Any]:
    (conversation,) = agl.TraceToMessages().adapt([span_of({"gen_ai.request.model": "m"} | attributes)])
    return conversation["messages"]


def span_of(attributes: dict[str, Any]) -> agl.Span:
    return agl.Span.from_attributes(attributes=attributes)


def test_an_image_in_openinference_is_one() -> None:
    contents = "llm.input_messages.0.message.contents"
    attributes = {
        "llm.input_messages.0.message.role": "user",
        f"{contents}.0.message_content.type": "text",
        f"{contents}.0.message_content.text": "Which room?",
        f"{contents}.1.message_content.type": "image",
        f"{contents}.1.message_content.image.image.url": "https://example.com/room.png",
    }
    assert messages_of(**attributes) == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Which room?"},
                {"type": "image_url", "image_url": {"url": "https://example.com/room.png"}},
            ],
        }
    ]


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        ({"args": {"at": 1}}, {"result": "free"}),
        ({"input": {"at": 1}}, {"output": {"type": "text", "value": "free"}}),
    ],
)
def test_tools_in_older_and_newer_versions_of_the_ai_sdk_are_the_same(arguments: Any, result: Any) -> None:
    sent = [
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": [{"type": "tool-call", "toolCallId": "1", "toolName": "look", **arguments}]},
        {"role": "tool", "content": [{"type": "tool-result", "toolCallId": "1", "toolName": "look", **result}]},
    ]
    told, asked, answered = messages_of(**{"ai.prompt.messages": json.dumps(sent)})
    assert told == {"role": "system", "content": "Be brief."}
    assert asked["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"at": 1}'}
    assert answered == {"role": "tool", "tool_call_id": "1", "content": "free"}


def test_what_the_conventions_name_is_believed() -> None:
    span = span_of({"gen_ai.request.model": "asked", "llm.model_name": "other", "gen_ai.completion.0.content": "yes"})
    assert list(usage_by_model([span])) == ["asked"]


@pytest.mark.parametrize("kind", ["AGENT", "CHAIN", "TOOL", "RETRIEVER", "RERANKER"])
def test_what_openinference_calls_otherwise_is_no_call_of_a_model(kind: str) -> None:
    span = span_of({"openinference.span.kind": kind, "llm.model_name": "m", "gen_ai.request.model": "m"})
    assert usage_by_model([span]) == {}


def test_what_is_asked_of_the_ai_sdk_is_no_second_call() -> None:
    asked = {"ai.operationId": "ai.generateText", "ai.model.id": "m", "ai.usage.promptTokens": 9}
    assert usage_by_model([span_of(asked)]) == {}


@pytest.mark.parametrize(
    "attributes",
    [
        {"llm.request.type": "embedding", "gen_ai.request.model": "e", "gen_ai.usage.prompt_tokens": 5},
        {"openinference.span.kind": "EMBEDDING", "llm.model_name": "e", "llm.token_count.prompt": 5},
    ],
)
def test_embeddings_are_no_calls_of_a_language_model_and_cost_their_tokens(attributes: dict[str, Any]) -> None:
    assert usage_by_model([span_of(attributes)]) == {"e": Usage(calls=1, input_tokens=5)}
    assert agl.TraceToMessages().adapt([span_of(attributes)]) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ai.prompt.messages", "not JSON"),
        ("ai.prompt.messages", '[7, {"role": "user", "content": [7, null, {"type": "file"}]}]'),
        ("ai.response.toolCalls", '[7, "x"]'),
        ("ai.prompt.tools", ["not JSON", "7"]),
        ("llm.tools.0.tool.json_schema", "not JSON"),
        ("llm.input_messages.0", 7),
        ("llm.input_messages.0.message.contents.0", 7),
        ("llm.input_messages.0.message.contents.x.message_content", 7),
    ],
)
def test_what_is_no_message_breaks_nothing(name: str, value: Any) -> None:
    span = span_of({"gen_ai.request.model": "m", "gen_ai.completion.0.content": "yes", name: value})
    (conversation,) = agl.TraceToMessages().adapt([span])
    assert conversation["messages"][-1]["content"] == "yes"
