import pytest
from agentlightning.emitter import (
    LinkMatch,
    emit_reward,
    extract_links_from_attributes,
    extract_tags_from_attributes,
    make_link_attributes,
    make_tag_attributes,
    query_linked_spans,
)
from agentlightning.types import Span
from opentelemetry.sdk.trace import TracerProvider


def a_span(**attributes: str) -> Span:
    return Span.from_attributes(attributes=attributes)


def test_tags_are_read_back_in_numeric_order() -> None:
    tags = [f"tag {number}" for number in range(12)]
    shuffled = dict(sorted(make_tag_attributes(tags).items()))
    assert extract_tags_from_attributes(shuffled) == tags


def test_links_are_read_back_in_numeric_order() -> None:
    links = {f"key {number}": str(number) for number in range(12)}
    shuffled = dict(sorted(make_link_attributes(links).items()))
    assert extract_links_from_attributes(shuffled) == list(links.items())


def test_tags_and_links_travel_with_what_is_emitted() -> None:
    about = {**make_tag_attributes(["judge"]), **make_link_attributes({"gen_ai.response.id": "r-1"})}
    attributes = emit_reward(1, attributes=about).attributes
    assert extract_tags_from_attributes(attributes) == ["judge"]
    assert extract_links_from_attributes(attributes) == [LinkMatch("gen_ai.response.id", "r-1")]


@pytest.mark.parametrize(
    "attributes",
    [
        {"agentlightning.tag": "x"},
        {"agentlightning.tag.first": "x"},
        {"agentlightning.tag.0": 1},
        {"agentlightning.link.0.key_match": "a"},
        {"agentlightning.link.0.value_match": "a"},
        {"agentlightning.link.0.key_match": "a", "agentlightning.link.0.value_match": 1},
    ],
)
def test_malformed_tags_and_links_are_passed_over(attributes) -> None:
    assert extract_tags_from_attributes(attributes) == []
    assert extract_links_from_attributes(attributes) == []


def test_linked_spans_have_what_every_link_asks_for() -> None:
    spans = [a_span(room="Lyra", day="1"), a_span(room="Lyra", day="2"), a_span(day="2")]
    assert query_linked_spans(spans, [LinkMatch("room", "Lyra"), LinkMatch("day", "2")]) == [spans[1]]


def test_without_links_no_span_is_linked() -> None:
    assert query_linked_spans([a_span()], []) == []


@pytest.mark.parametrize("key", ["trace_id", "span_id"])
def test_spans_are_found_by_their_ids(key) -> None:
    spans = [a_span(), a_span()]
    assert query_linked_spans(spans, [LinkMatch(key, getattr(spans[1], key))]) == spans[1:]


def test_spans_of_opentelemetry_are_found_by_their_ids() -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("app")
    spans = [tracer.start_span("one"), tracer.start_span("two")]
    wanted = f"{spans[1].get_span_context().span_id:016x}"
    assert query_linked_spans(spans, [LinkMatch("span_id", wanted)]) == spans[1:]


@pytest.mark.parametrize("tags", ["judge", [1]])
def test_tags_that_are_no_texts_are_refused(tags) -> None:
    with pytest.raises(TypeError, match="must be"):
        make_tag_attributes(tags)


def test_a_link_to_what_is_no_text_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="the link 'step' must be text; it is 1"):
        make_link_attributes({"step": 1})
