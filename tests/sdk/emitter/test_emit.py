from dataclasses import dataclass
from typing import Any

import pytest
from agentlightning.emitter import emit_annotation, emit_exception, emit_message, emit_object
from agentlightning.tracer import Tracer
from pydantic import BaseModel


@dataclass
class Room:
    seats: int


class Plan(BaseModel):
    rooms: list[Room]


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


@pytest.mark.parametrize(
    ("emit", "value"),
    [(emit_message, "hi"), (emit_object, {"a": 1}), (emit_exception, ValueError()), (emit_annotation, {"a": 1})],
)
async def test_what_is_emitted_is_a_span_of_the_rollout_in_progress(emit, value: Any) -> None:
    async with Tracer().trace_context() as attempt:
        fields = emit(value)
    root, span = attempt.spans
    assert (span.name, span.attributes, span.start_time) == (fields.name, fields.attributes, fields.start_time)
    assert span.parent_id == root.span_id
