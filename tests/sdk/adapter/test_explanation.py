"""Why there is data, and why not."""

from typing import Any

import agentlightning as agl
import pytest


def a_call(**fields: Any) -> agl.Span:
    attributes = {"gen_ai.operation.name": "chat"} | fields.pop("attributes", {})
    return agl.Span.from_attributes(**{"name": "chat", **fields}, attributes=attributes)


SAID = {"gen_ai.prompt.0.content": "Which room?", "gen_ai.completion.0.content": "A103"}


def test_what_is_used_is_what_adapt_gives() -> None:
    adapter, spans = agl.TraceToMessages(), [a_call(attributes=SAID), a_call()]
    explained = adapter.explain(spans)
    assert [explanation.item for explanation in explained if explanation.used] == adapter.adapt(spans)
    assert [explanation.used for explanation in explained] == [True, False]


def test_a_call_without_messages_is_dropped_and_says_so() -> None:
    (explanation,) = agl.TraceToMessages().explain([a_call()])
    assert not explanation.used
    assert "no messages were recorded" in explanation.reason


def test_a_call_that_failed_is_a_conversation_without_an_answer() -> None:
    (explanation,) = agl.TraceToMessages().explain([a_call(attributes={"gen_ai.prompt.0.content": "x"})])
    assert explanation.used
    assert explanation.reason == "1 message, no answer"


def test_it_is_said_in_a_line_that_names_the_span_and_the_model() -> None:
    span = a_call(name="ask", sequence_id=4, attributes={"gen_ai.request.model": "small"})
    assert str(agl.Explanation(span, "because")) == "dropped  #4 ask small: because"
    span.name = "chat small"
    assert str(agl.Explanation(span, "because")) == "dropped  #4 chat small: because"


def test_one_response_that_two_spans_name_is_one_call_in_its_fuller_record() -> None:
    same: dict[str, Any] = {"gen_ai.response.id": "r1"}
    plain, full = a_call(sequence_id=1, attributes=same), a_call(sequence_id=2, attributes=same | SAID)
    explained = agl.TraceToMessages().explain([plain, full])
    assert [explanation.used for explanation in explained] == [False, True]
    assert explained[0].reason == "#2 records the same call"


def test_a_call_inside_one_that_was_answered_is_the_same_call() -> None:
    outer = a_call(attributes=SAID | {"gen_ai.response.id": "r1"})
    inner = a_call(parent_id=outer.span_id, attributes=SAID)
    assert [explanation.used for explanation in agl.TraceToMessages().explain([outer, inner])] == [True, False]


def test_a_call_that_does_not_name_its_response_gives_way_to_one_inside_that_does() -> None:
    outer = a_call(attributes=SAID)
    inner = a_call(parent_id=outer.span_id, attributes=SAID | {"gen_ai.response.id": "r1"})
    assert [explanation.used for explanation in agl.TraceToMessages().explain([outer, inner])] == [False, True]


def test_two_responses_are_two_calls_even_inside_one_another() -> None:
    outer = a_call(attributes=SAID | {"gen_ai.response.id": "r1"})
    inner = a_call(parent_id=outer.span_id, attributes=SAID | {"gen_ai.response.id": "r2"})
    assert len(agl.TraceToMessages().adapt([outer, inner])) == 2


def test_spans_that_are_their_own_ancestors_raise_nothing() -> None:
    first = a_call(span_id="a" * 16, parent_id="b" * 16, attributes=SAID)
    second = a_call(span_id="b" * 16, parent_id="a" * 16, attributes=SAID)
    assert agl.TraceToMessages().explain([first, second])


@pytest.mark.parametrize(
    ("spans", "reason"),
    [
        ([], "no spans were recorded"),
        ([agl.Span.from_attributes(attributes={})], "none of the 1 spans is a call of a model"),
        ([a_call(), a_call()], "2 x no messages were recorded"),
    ],
)
def test_no_data_is_an_error_with_a_reason_for_who_must_have_some(spans: list[agl.Span], reason: str) -> None:
    with pytest.raises(agl.EmptyTrainingDataError, match=reason):
        agl.TraceToMessages().require(spans)


def test_who_must_have_data_is_given_it() -> None:
    assert agl.TraceToMessages().require([a_call(attributes=SAID)])[0]["messages"][-1]["content"] == "A103"
