"""How any Python value becomes attributes of a span. Knows no span and no tracer."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pydantic_core

Scalar = str | bool | int | float
AttributeValue = Scalar | Sequence[str] | Sequence[bool] | Sequence[int] | Sequence[float]


def to_json(value: object) -> str:
    """JSON of any value: models and dataclasses by their fields, what has no JSON by its `repr`."""
    try:
        return pydantic_core.to_json(value, fallback=repr, inf_nan_mode="strings", bytes_mode="base64").decode()
    except ValueError:  # It contains itself, or half of a surrogate pair.
        return json.dumps(repr(value))


def attribute(value: object) -> AttributeValue:
    """The value itself where OpenTelemetry can hold it, its JSON otherwise."""
    if isinstance(value, Scalar):
        return value
    if isinstance(value, (list, tuple)) and value and len({type(item) for item in value}) == 1:
        return value if isinstance(value[0], Scalar) else to_json(value)
    return to_json(value)


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, AttributeValue]:
    """Attributes named by their path: `{"a": {"b": 1}}` becomes `{"a.b": 1}`."""
    flat: dict[str, AttributeValue] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = attribute(value)
    return flat
