"""Whatever stands in a span, an adapter gives what it can and raises nothing."""

import json
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.adapter import usage_by_model
from hypothesis import given, settings
from hypothesis import strategies as st

NAMES = [
    *("gen_ai.operation.name", "gen_ai.request.type", "gen_ai.response.id", "gen_ai.request.functions.0.parameters"),
    *("gen_ai.prompt.0", "gen_ai.prompt.0.content", "gen_ai.prompt.0.tool_calls.0.name", "gen_ai.prompt.x.²"),
    *("gen_ai.completion.0.content", "gen_ai.completion.0.tool_calls", "gen_ai.completion.0.role"),
    *("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions", "gen_ai.tool.definitions"),
    *("prompt_token_ids", "response_token_ids", "logprobs.content", "llm.x.choices", "llm.x.response_token_ids"),
    *("agent.name", "tool.name", "agentlightning.reward.0.value", "message", "content", "tool_calls", "id", "index"),
    *("gen_ai.event.content", "openinference.span.kind", "llm.model_name", "llm.token_count.prompt"),
    *("llm.input_messages.0.message.content", "llm.input_messages.0.message.contents.0.message_content.image"),
    *("llm.output_messages.0.message.tool_calls.0.tool_call.function.name", "llm.tools.0.tool.json_schema"),
    *("llm.input_messages.0.message", "llm.input_messages.", "llm.request.functions.0.name", "llm.request.type"),
    *("ai.prompt.messages", "ai.prompt.tools", "ai.response.text", "ai.response.toolCalls", "ai.usage.promptTokens"),
]
PART = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(
            ["text", "tool_call", "tool_call_response", "reasoning", "uri", "blob", "image_url", "tool-call"]
        ),
        "content": st.none() | st.text(max_size=3),
        "toolCallId": st.none() | st.integers(),
        "text": st.none() | st.text(max_size=3),
        "modality": st.just("image"),
        "uri": st.integers(),
        "image_url": st.none() | st.text(max_size=3),
    },
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | PART,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "parts", "content", "tool_calls", "message", "function"]), inner)
    ),
    max_leaves=8,
)
MESSAGE = st.fixed_dictionaries(
    {}, optional={name: st.lists(PART, max_size=2) | JSON for name in ("role", "parts", "content", "tool_calls")}
)
ATTRIBUTES = st.dictionaries(
    st.sampled_from(NAMES),
    (st.lists(MESSAGE, max_size=2) | JSON).map(json.dumps)
    | st.text(max_size=8)
    | st.integers()
    | st.floats(allow_nan=False)
    | st.lists(st.integers()),
)
EVENT = st.builds(
    agl.Event,
    name=st.sampled_from(["gen_ai.user.message", "gen_ai.choice", "gen_ai.client.inference.operation.details"]),
    attributes=ATTRIBUTES,
)


@st.composite
def traces(draw: st.DrawFn) -> list[agl.Span]:
    ids = [f"{number:016x}" for number in range(draw(st.integers(1, 4)))]
    spans = []
    for span_id in ids:
        span = agl.Span.from_attributes(
            attributes=draw(ATTRIBUTES),
            span_id=span_id,
            parent_id=draw(st.sampled_from([*ids, None, "f" * 16])),
            sequence_id=draw(st.integers(0, 3)),
            start_time=draw(st.floats(0, 9)),
            end_time=draw(st.floats(0, 9)),
        )
        span.events = draw(st.lists(EVENT, max_size=2))
        spans.append(span)
    return spans


@pytest.mark.parametrize(
    "adapter",
    [agl.TraceToMessages(), agl.TracerTraceToTriplet(), agl.LlmProxyTraceToTriplet()],
    ids=lambda it: type(it).__name__,
)
@settings(max_examples=50, deadline=None)
@given(spans=traces())
def test_an_adapter_raises_nothing_and_says_what_it_did(
    adapter: agl.LLMCallAdapter[Any], spans: list[agl.Span]
) -> None:
    explained = adapter.explain(spans)
    assert [explanation.item for explanation in explained if explanation.used] == adapter.adapt(spans)
    assert all(map(str, explained))
    json.dumps([getattr(item, "__dict__", item) for item in adapter.adapt(spans)])


@settings(max_examples=50, deadline=None)
@given(spans=traces())
def test_usage_is_of_calls_and_counts_in_whole_numbers(spans: list[agl.Span]) -> None:
    assert all(used.calls > 0 and used.input_tokens >= 0 for used in usage_by_model(spans).values())


@settings(max_examples=100, deadline=None)
@given(messages=st.lists(MESSAGE, min_size=1, max_size=2))
def test_messages_of_any_shape_are_messages(messages: list[Any]) -> None:
    names = ("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions", "gen_ai.prompt.0.content")
    span = agl.Span.from_attributes(attributes=dict.fromkeys(names, json.dumps(messages)))
    span.events = [agl.Event(name="gen_ai.choice", attributes={"message": json.dumps(messages[0])})]
    assert agl.TraceToMessages().adapt([span])[0]["messages"]
    assert agl.TracerTraceToTriplet().adapt([span])
