"""What an agent records besides rewards: messages, objects, exceptions and annotations. Knows no rollout."""

import base64
import traceback
from collections.abc import Mapping
from typing import Any

from agentlightning.emitter.attributes import flatten, to_json
from agentlightning.emitter.recording import record
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


def emit_message(message: str, attributes: Mapping[str, Any] | None = None) -> SpanCoreFields:
    """Record a message.

    Args:
        message: The text.
        attributes: Anything else to record with it.
    """
    return record(MESSAGE_SPAN, {**flatten(attributes or {}), MESSAGE_BODY: str(message)})


def emit_object(object: object, attributes: Mapping[str, Any] | None = None) -> SpanCoreFields:
    """Record a value: a scalar as it is, bytes in base64, anything else as JSON.

    Args:
        object: The value. Models and dataclasses become JSON by their fields.
        attributes: Anything else to record with it.
    """
    return record(
        OBJECT_SPAN,
        {**flatten(attributes or {}), OBJECT_TYPE: qualified_name(type(object)), **_content(object)},
    )


def emit_exception(exception: BaseException, attributes: Mapping[str, Any] | None = None) -> SpanCoreFields:
    """Record an exception that the agent handles.

    Args:
        exception: The exception.
        attributes: Anything else to record with it.
    """
    return record(
        EXCEPTION_SPAN,
        {
            **flatten(attributes or {}),
            "exception.type": qualified_name(type(exception)),
            "exception.message": str(exception),
            "exception.stacktrace": "".join(traceback.format_exception(exception)),
            "exception.escaped": False,
        },
    )


def emit_annotation(annotation: Mapping[str, Any]) -> SpanCoreFields:
    """Record named values; nested ones are named by their path.

    Args:
        annotation: The values by name.
    """
    return record(ANNOTATION_SPAN, flatten(annotation))


def qualified_name(cls: type) -> str:
    """A class by module and name, without the module where it is a builtin."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _content(value: object) -> dict[str, str]:
    match value:
        case str() | bool() | int() | float():
            return {OBJECT_LITERAL: str(value)}
        case bytes():
            return {OBJECT_LITERAL: base64.b64encode(value).decode()}
        case _:
            return {OBJECT_JSON: to_json(value)}
