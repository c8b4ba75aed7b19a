"""How any Python value becomes attributes of a span. Knows no span and no tracer."""

import contextlib
import json
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from types import GeneratorType
from typing import Any, Final, SupportsFloat, SupportsIndex, cast

import pydantic_core

Scalar = str | bool | int | float
AttributeValue = Scalar | Sequence[str] | Sequence[bool] | Sequence[int] | Sequence[float]

_NUMBERS: Final[set[type]] = {int, float}


def to_json(value: object) -> str:
    """JSON of any value: models and dataclasses by their fields, what has no JSON by its number or its `repr`.

    >>> to_json({"room": (1, 2), "price": float("nan")})
    '{"room":[1,2],"price":"NaN"}'
    """
    try:
        text = pydantic_core.to_json(_kept(value), fallback=_substitute, inf_nan_mode="strings", bytes_mode="base64")
        return text.decode()
    except Exception:  # It contains itself, half of a surrogate pair, or code that fails.
        return json.dumps(_shown(value))


def to_plain(value: object) -> Any:
    """The value in the types that JSON has, as `to_json` reads it; but NaN and infinities stay numbers.

    >>> to_plain({"room": (1, 2), "price": float("nan")})
    {'room': [1, 2], 'price': nan}
    """
    try:
        return pydantic_core.to_jsonable_python(
            _kept(value), fallback=_substitute, inf_nan_mode="constants", bytes_mode="base64"
        )
    except Exception:
        return _shown(value)


def attribute(value: object) -> AttributeValue:
    """The value itself where OpenTelemetry can hold it, its JSON otherwise.

    >>> attribute([1, 0.5]), attribute([1, "a"])
    ([1.0, 0.5], '[1,"a"]')
    """
    return _attribute(to_plain(value))


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, AttributeValue]:
    """Attributes named by their path, through mappings, models and dataclasses.

    >>> flatten({"a": {"b": 1}, "tags": ["x", "y"]})
    {'a.b': 1, 'tags': ['x', 'y']}
    """
    return dict(leaf for key, value in nested.items() for leaf in _leaves(f"{prefix}{key}", to_plain(value)))


def flatten_finite(nested: Mapping[str, Any]) -> dict[str, AttributeValue]:
    """As `flatten`, for what somebody means to record: a number that no store can keep is refused.

    Raises:
        ValueError: When a number is NaN or infinite.
    """
    attributes = flatten(nested)
    for key, value in attributes.items():
        for number in [value] if isinstance(value, Scalar) else value:
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(
                    f"the attribute {key!r} is {value}; a number must be finite: leave it out, or record it as text"
                )
    return attributes


def _leaves(name: str, plain: Any) -> Iterator[tuple[str, AttributeValue]]:
    if isinstance(plain, dict) and plain:
        for key, value in plain.items():
            yield from _leaves(f"{name}.{key}", value)
    else:
        yield name, _attribute(plain)


def _attribute(plain: Any) -> AttributeValue:
    if isinstance(plain, Scalar):
        return plain
    kinds = {type(item) for item in plain} if isinstance(plain, list) else set()
    if kinds == _NUMBERS:
        return [float(item) for item in plain]
    if len(kinds) == 1 and isinstance(plain[0], Scalar):
        return cast(AttributeValue, plain)
    return to_json(plain)


def _kept(value: object) -> object:
    """The value, unless reading it would use it up."""
    return _shown(value) if isinstance(value, GeneratorType) else value


def _substitute(value: Any) -> Any:
    """What stands for a value that pydantic does not know: its content, its number (numpy's too), else its `repr`."""
    with contextlib.suppress(Exception):  # It only looks like one: a class has the methods of its instances.
        if isinstance(value, Mapping):
            return dict(value)
        if getattr(value, "shape", None) == () and type(value.item()) is not type(value):
            return value.item()
        if isinstance(value, SupportsIndex):
            return operator.index(value)
        if isinstance(value, SupportsFloat):
            return float(value)
    return _shown(value)


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception:
        return object.__repr__(value)
