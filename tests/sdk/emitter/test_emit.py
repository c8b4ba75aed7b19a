import enum
from dataclasses import dataclass
from typing import Any

import pytest
from agentlightning.emitter import (
    emit_annotation,
    emit_exception,
    emit_message,
    emit_object,
    emit_reward,
    get_message_value,
    get_object_value,
)
from agentlightning.tracer import Tracer
from agentlightning.types import Span
from opentelemetry.sdk.trace import TracerProvider
from pydantic import BaseModel


@dataclass
class Room:
    seats: int


class Plan(BaseModel):
    rooms: list[Room]


class Seats(BaseModel):
    seats: int


class Colour(enum.StrEnum):
    RED = "red"


class Opaque:
    def __repr__(self) -> str:
        return "<opaque>"


def test_a_message_is_recorded_with_its_attributes() -> None:
    fields = emit_message("hi", {"step": 1})
    assert (fields.name, fields.status.status_code) == ("agentlightning.message", "OK")
    assert fields.attributes == {"agentlightning.message.body": "hi", "step": 1}


@pytest.mark.parametrize(
    ("value", "kind", "literal"),
    [
        ("text", "str", "text"),
        (3, "int", "3"),
        (True, "bool", "True"),
        (0.5, "float", "0.5"),
        (b"\xff", "bytes", "/w=="),
    ],
)
def test_a_scalar_is_recorded_as_it_is(value, kind, literal) -> None:
    assert emit_object(value).attributes == {
        "agentlightning.object.type": kind,
        "agentlightning.object.literal": literal,
    }


@pytest.mark.parametrize(
    ("value", "json"),
    [
        ({"a": [1, None]}, '{"a":[1,null]}'),
        (None, "null"),
        (Room(4), '{"seats":4}'),
        (Plan(rooms=[Room(4)]), '{"rooms":[{"seats":4}]}'),
        ({"when": float("nan"), "what": Opaque()}, '{"when":"NaN","what":"<opaque>"}'),
        ({"ä"}, '["ä"]'),
        (["half \ud83d"], "\"['half \\\\ud83d']\""),
    ],
)
def test_any_other_value_is_recorded_as_json(value, json) -> None:
    assert emit_object(value).attributes["agentlightning.object.json"] == json


def test_a_class_is_named_with_its_module() -> None:
    assert emit_object(Room(4)).attributes["agentlightning.object.type"] == f"{__name__}.Room"


def test_an_exception_is_recorded_with_its_stack_trace() -> None:
    try:
        raise ValueError("no room")
    except ValueError as error:
        attributes = emit_exception(error, {"step": 1}).attributes
    assert (attributes["exception.type"], attributes["exception.message"]) == ("ValueError", "no room")
    assert 'raise ValueError("no room")' in attributes["exception.stacktrace"]
    assert attributes["step"] == 1


def test_nested_annotations_are_named_by_their_path() -> None:
    fields = emit_annotation({"a": {"b": 1, "c": {}}, "tags": ["x", "y"], "mixed": [1, "x"]})
    assert fields.attributes == {"a.b": 1, "a.c": "{}", "tags": ["x", "y"], "mixed": '[1,"x"]'}


@pytest.mark.parametrize("value", [Room(4), Seats(seats=4)])
def test_the_fields_of_a_model_or_dataclass_are_annotations(value) -> None:
    assert emit_annotation(value).attributes == {"seats": 4}


@pytest.mark.parametrize("value", ["text", 1, [1], None])
def test_an_annotation_without_names_is_refused(value) -> None:
    with pytest.raises(TypeError, match="an annotation has named values; it is"):
        emit_annotation(value)


@pytest.mark.parametrize(
    "value", ["text", "", 3, -1, True, False, 0.5, b"\xff", None, {"a": [1, None]}, [], {"b": {"c": "ä"}}]
)
async def test_an_object_is_read_back(value) -> None:
    assert get_object_value(emit_object(value)) == value
    assert type(get_object_value(emit_object(value))) is type(value)


@pytest.mark.parametrize(
    ("value", "read"), [(Room(4), {"seats": 4}), ((1, 2), [1, 2]), (Colour.RED, "red"), ({"ä"}, ["ä"])]
)
async def test_an_object_that_json_does_not_have_is_read_back_as_what_it_became(value, read) -> None:
    assert get_object_value(emit_object(value)) == read


def test_a_message_is_read_back() -> None:
    assert get_message_value(emit_message("hi")) == "hi"


def test_messages_and_objects_are_read_from_spans_of_opentelemetry() -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("app")
    attributes = {**emit_message("hi").attributes, **emit_object({"a": 1}).attributes}
    span = tracer.start_span("span", attributes=attributes)
    assert (get_message_value(span), get_object_value(span)) == ("hi", {"a": 1})


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"agentlightning.message.body": 1, "agentlightning.object.json": "{"},
        {"agentlightning.object.json": 1},
        {"agentlightning.object.literal": "1"},
        {"agentlightning.object.type": "int"},
        {"agentlightning.object.type": "int", "agentlightning.object.literal": "one"},
        {"agentlightning.object.type": "bool", "agentlightning.object.literal": "maybe"},
        {"agentlightning.object.type": "bytes", "agentlightning.object.literal": "?"},
        {"agentlightning.object.type": ["int"], "agentlightning.object.literal": "1"},
    ],
)
def test_a_span_with_a_malformed_message_or_object_has_none(attributes) -> None:
    span = Span.from_attributes(attributes=attributes)
    assert (get_message_value(span), get_object_value(span)) == (None, None)


@pytest.mark.parametrize(
    ("emit", "value"), [(emit_message, "hi"), (emit_object, 1), (emit_exception, ValueError()), (emit_reward, 1)]
)
def test_an_attribute_that_is_not_finite_is_refused_by_name(emit, value) -> None:
    with pytest.raises(ValueError, match="the attribute 'weight' is nan; a number must be finite"):
        emit(value, attributes={"weight": float("nan")})


def test_an_annotation_that_is_not_finite_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"the attribute 'judge\.weight' is inf"):
        emit_annotation({"judge": {"weight": float("inf")}})


EMITTERS = [
    (emit_message, "hi"),
    (emit_object, {"a": 1}),
    (emit_exception, ValueError()),
    (emit_annotation, {"a": 1}),
    (emit_reward, 1),
]


@pytest.mark.parametrize(("emit", "value"), EMITTERS)
async def test_what_is_not_propagated_is_built_and_not_recorded(emit, value: Any) -> None:
    async with Tracer().trace_context() as attempt:
        fields = emit(value, propagate=False)
    assert (fields.name, fields.attributes) == (emit(value).name, emit(value).attributes)
    assert len(attempt.spans) == 1


@pytest.mark.parametrize(("emit", "value"), EMITTERS)
async def test_what_is_emitted_is_a_span_of_the_rollout_in_progress(emit, value: Any) -> None:
    async with Tracer().trace_context() as attempt:
        fields = emit(value)
    root, span = attempt.spans
    assert (span.name, span.attributes, span.start_time) == (fields.name, fields.attributes, fields.start_time)
    assert span.parent_id == root.span_id
