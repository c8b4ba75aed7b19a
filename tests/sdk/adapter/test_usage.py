"""How many tokens a rollout used: each call once, whoever recorded it and however it spells it."""

from typing import Any

import agentlightning as agl
import pytest
from agentlightning.adapter import Usage, distinct_calls, usage_by_model


def span(span_id: str = "01", parent_id: str | None = None, **attributes: Any) -> agl.Span:
    named = {f"gen_ai.{name.replace('__', '.')}": value for name, value in attributes.items()}
    return agl.Span.from_attributes(attributes=named, span_id=span_id, parent_id=parent_id)


def call(span_id: str = "01", parent_id: str | None = None, **attributes: Any) -> agl.Span:
    return span(span_id, parent_id, request__model="m", completion__0__content="yes", **attributes)


@pytest.mark.parametrize(
    ("sent", "returned"), [("input_tokens", "output_tokens"), ("prompt_tokens", "completion_tokens")]
)
def test_tokens_are_read_as_old_and_new_conventions_spell_them(sent: str, returned: str) -> None:
    spans = [call(**{f"usage__{sent}": 9, f"usage__{returned}": 2})]
    assert usage_by_model(spans) == {"m": Usage(calls=1, input_tokens=9, output_tokens=2)}


def test_tokens_may_be_texts_as_agl_emit_sends_them() -> None:
    spans = [call(usage__input_tokens="9", usage__output_tokens="2")]
    assert usage_by_model(spans) == {"m": Usage(calls=1, input_tokens=9, output_tokens=2)}


def test_a_call_that_two_instrumentations_recorded_counts_once() -> None:
    tokens = {"usage__input_tokens": 9, "usage__output_tokens": 2}
    spans = [call("01", response__id="r", **tokens), call("02", "01", response__id="r", **tokens)]
    assert usage_by_model(spans) == {"m": Usage(calls=1, input_tokens=9, output_tokens=2)}
    assert len(distinct_calls(spans)) == 1


def test_the_record_of_a_call_that_tells_its_tokens_is_believed() -> None:
    fuller = call("01", response__id="r", prompt__0__content="why?")
    told = call("02", response__id="r", usage__input_tokens=9, usage__output_tokens=2)
    assert usage_by_model([fuller, told]) == {"m": Usage(calls=1, input_tokens=9, output_tokens=2)}


def test_embeddings_count_once_and_as_no_call_of_a_language_model() -> None:
    asked = {"request__model": "e", "request__type": "embedding", "usage__prompt_tokens": 5}
    spans = [span("01", **asked), span("02", "01", **asked)]
    assert usage_by_model(spans) == {"e": Usage(calls=1, input_tokens=5)}
    assert distinct_calls(spans) == []


def test_an_agent_that_sums_up_its_calls_is_none_itself() -> None:
    agent = span("01", operation__name="invoke_agent", request__model="m", usage__input_tokens=9)
    assert usage_by_model([agent]) == {}


def test_a_call_that_does_not_say_what_it_used_is_counted_as_such() -> None:
    assert usage_by_model([call()]) == {"m": Usage(calls=1, unmeasured_calls=1)}


@pytest.mark.parametrize("count", [float("inf"), float("nan"), -1, "many"])
def test_what_is_no_count_is_none(count: Any) -> None:
    assert usage_by_model([call(usage__input_tokens=count)]) == {"m": Usage(calls=1, unmeasured_calls=1)}


def test_a_call_that_was_never_answered_used_nothing() -> None:
    assert usage_by_model([span(request__model="m", prompt__0__content="why?")]) == {"m": Usage(calls=1)}


def test_a_model_goes_by_the_name_it_was_asked_for_by() -> None:
    assert list(usage_by_model([call(response__model="m-2025-04-14")])) == ["m"]
    assert list(usage_by_model([span(response__model="m-2025-04-14")])) == ["m-2025-04-14"]
