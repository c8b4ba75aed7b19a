import enum
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Any

import pytest
from agentlightning.emitter.attributes import attribute, flatten, flatten_finite, to_json
from pydantic import BaseModel


class NumpyScalar:
    """As numpy's: no number in Python's eyes, but with all that numbers have."""

    shape = ()

    def __init__(self, value: Any) -> None:
        self._value = value

    def item(self) -> Any:
        return self._value

    def __float__(self) -> float:
        return float(self._value)


class NumpyArray(NumpyScalar):
    shape = (2,)

    def __float__(self) -> float:
        raise TypeError("only scalars can be converted")

    def __repr__(self) -> str:
        return f"array({self._value})"


class Weight:
    def __float__(self) -> float:
        return 0.5


class Count:
    def __index__(self) -> int:
        return 3


class Colour(enum.StrEnum):
    RED = "red"


class OwnMapping(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        return {"a": 1}[key]

    def __iter__(self) -> Iterator[str]:
        return iter("a")

    def __len__(self) -> int:
        return 1


@dataclass
class Room:
    seats: int
    tags: tuple[str, ...] = ()


class Plan(BaseModel):
    room: Room


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (NumpyScalar(0.5), 0.5),
        (NumpyScalar(True), True),
        (NumpyScalar(7), 7),
        (Weight(), 0.5),
        (Count(), 3),
        (Colour.RED, "red"),
        (date(2026, 1, 2), "2026-01-02"),
        (NumpyArray([1, 2]), "array([1, 2])"),
        (Weight, f"<class '{__name__}.Weight'>"),
    ],
)
def test_a_value_that_is_a_number_or_a_text_in_other_clothes_is_recorded_as_that(value, expected) -> None:
    assert (attribute(value), type(attribute(value))) == (expected, type(expected))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({3}, [3]),
        (("a", "b"), ["a", "b"]),
        ([NumpyScalar(1), 2], [1, 2]),
        ([1, 0.5], [1.0, 0.5]),
        ([], "[]"),
        ([1, None], "[1,null]"),
        ([{"a": 1}], '[{"a":1}]'),
        ([True, 1], "[true,1]"),
    ],
)
def test_a_collection_of_one_type_is_recorded_as_a_list_and_any_other_as_json(value, expected) -> None:
    assert attribute(value) == expected


@pytest.mark.parametrize("holder", [dict, MappingProxyType])
def test_models_dataclasses_and_mappings_are_named_by_their_path(holder) -> None:
    nested = holder({"plan": Plan(room=Room(4, ("x", "y"))), "own": OwnMapping(), 1: None})
    assert flatten(nested) == {"plan.room.seats": 4, "plan.room.tags": ["x", "y"], "own.a": 1, "1": "null"}


def test_what_contains_itself_is_recorded_as_its_repr() -> None:
    ring: dict[str, Any] = {"a": 1}
    ring["ring"] = ring
    assert flatten({"ring": ring, "b": 2}) == {"ring": "{'a': 1, 'ring': {...}}", "b": 2}


def test_a_generator_is_not_used_up() -> None:
    numbers = (number for number in [1, 2])
    assert "generator" in to_json(numbers)
    assert list(numbers) == [1, 2]


@pytest.mark.parametrize(
    ("nested", "key"),
    [
        ({"loss": math.nan}, "loss"),
        ({"judge": {"loss": math.inf}}, "judge.loss"),
        ({"losses": [0.5, -math.inf]}, "losses"),
        ({"loss": NumpyScalar(math.nan)}, "loss"),
    ],
)
def test_a_number_that_is_not_finite_is_refused_by_name(nested, key) -> None:
    with pytest.raises(ValueError, match=f"the attribute '{key}' is .*must be finite"):
        flatten_finite(nested)
