"""What an agent records besides rewards and operations, and how it is read back. Knows no rollout."""

import base64
import functools
import json
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

from agentlightning.emitter.attributes import AttributeValue, flatten_finite, to_json, to_plain
from agentlightning.emitter.recording import HasAttributes, record
from agentlightning.semconv import (
    ANNOTATION_SPAN,
    EXCEPTION_SPAN,
    MESSAGE_BODY,
    MESSAGE_SPAN,
    OBJECT_JSON,
    OBJECT_LITERAL,
    OBJECT_SPAN,
    OBJECT_TYPE,
)
from agentlightning.types import SpanCoreFields

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_FROM_LITERAL: Final[Mapping[str, Callable[[str], Any]]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": {"True": True, "False": False}.__getitem__,
    "bytes": functools.partial(base64.b64decode, validate=True),
}


def emit_message(message: str, attributes: Mapping[str, Any] | None = None, propagate: bool = True) -> SpanCoreFields:
    """Record a message.

    Args:
        message: The text.
        attributes: Anything else to record with it.
        propagate: Whether to record the span at all, or only to build it.

    Raises:
        ValueError: When a number among the attributes is not finite.

    >>> emit_message("Two rooms are free.", {"step": 1}).attributes
    {'step': 1, 'agentlightning.message.body': 'Two rooms are free.'}
    """
    body = {MESSAGE_BODY: str(message)}
    return record(MESSAGE_SPAN, {**flatten_finite(attributes or {}), **body}, propagate=propagate)


def emit_object(object: object, attributes: Mapping[str, Any] | None = None, propagate: bool = True) -> SpanCoreFields:
    """Record a value: a scalar as it is, bytes in base64, anything else as JSON.

    Args:
        object: The value. Models and dataclasses become JSON by their fields, sets and tuples lists; a number that is
            not finite becomes text in JSON.
        attributes: Anything else to record with it.
        propagate: Whether to record the span at all, or only to build it.

    Raises:
        ValueError: When a number among the attributes is not finite.

    >>> emit_object({"steps": (1, 2)}).attributes
    {'agentlightning.object.type': 'dict', 'agentlightning.object.json': '{"steps":[1,2]}'}
    """
    content = {OBJECT_TYPE: qualified_name(type(object)), **_content(object)}
    return record(OBJECT_SPAN, {**flatten_finite(attributes or {}), **content}, propagate=propagate)


def emit_exception(
    exception: BaseException, attributes: Mapping[str, Any] | None = None, propagate: bool = True
) -> SpanCoreFields:
    """Record an exception that the agent handles.

    Args:
        exception: The exception.
        attributes: Anything else to record with it.
        propagate: Whether to record the span at all, or only to build it.

    Raises:
        ValueError: When a number among the attributes is not finite.

    >>> try:
    ...     ["Lyra"].index("Vega")
    ... except ValueError as error:
    ...     emit_exception(error).attributes["exception.type"]
    'ValueError'
    """
    described: dict[str, AttributeValue] = {
        "exception.type": qualified_name(type(exception)),
        "exception.message": str(exception),
        "exception.stacktrace": "".join(traceback.format_exception(exception)),
        "exception.escaped": False,
    }
    return record(EXCEPTION_SPAN, {**flatten_finite(attributes or {}), **described}, propagate=propagate)


def emit_annotation(
    annotation: "Mapping[str, Any] | BaseModel | DataclassInstance", propagate: bool = True
) -> SpanCoreFields:
    """Record named values; nested ones, models and dataclasses too, are named by their path.

    Args:
        annotation: The values by name, or a model or dataclass with these fields.
        propagate: Whether to record the span at all, or only to build it.

    Raises:
        TypeError: When the values have no names.
        ValueError: When a number is not finite.

    >>> emit_annotation({"room": {"seats": 4}, "tried": ["Lyra", "Vega"]}).attributes
    {'room.seats': 4, 'tried': ['Lyra', 'Vega']}
    """
    named = annotation if isinstance(annotation, Mapping) else to_plain(annotation)
    if not isinstance(named, Mapping):
        raise TypeError(f"an annotation has named values; it is {annotation!r}: write {{'name': ...}}")
    return record(ANNOTATION_SPAN, flatten_finite(named), propagate=propagate)


def get_message_value(span: HasAttributes) -> str | None:
    """The text that `emit_message` recorded, None when the span carries none.

    >>> get_message_value(emit_message("Two rooms are free."))
    'Two rooms are free.'
    """
    body = (span.attributes or {}).get(MESSAGE_BODY)
    return body if isinstance(body, str) else None


def get_object_value(span: HasAttributes) -> Any:
    """The value that `emit_object` recorded, as JSON has it; None when the span carries none that can be read.

    >>> get_object_value(emit_object({"steps": (1, 2)}))
    {'steps': [1, 2]}
    """
    attributes = span.attributes or {}
    try:
        if OBJECT_JSON in attributes:
            return json.loads(attributes[OBJECT_JSON])
        read = _FROM_LITERAL.get(attributes[OBJECT_TYPE], str)
        return read(attributes[OBJECT_LITERAL])
    except (KeyError, TypeError, ValueError):
        return None


def qualified_name(cls: type) -> str:
    """A class by module and name, without the module where it is a builtin."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _content(value: object) -> dict[str, str]:
    if type(value) is bytes:
        return {OBJECT_LITERAL: base64.b64encode(value).decode()}
    if type(value) in (str, bool, int, float):
        return {OBJECT_LITERAL: str(value)}
    return {OBJECT_JSON: to_json(value)}
