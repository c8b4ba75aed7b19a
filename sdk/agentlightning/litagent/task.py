"""The task as an agent declares it: JSON made into the dataclass or the model that the parameter is annotated with."""

import dataclasses
import functools
import inspect
import logging
from collections.abc import Callable
from inspect import Parameter
from types import SimpleNamespace
from typing import Any, get_type_hints

from pydantic import BaseModel, TypeAdapter, ValidationError

from agentlightning.errors import AgentError

_log = logging.getLogger(__name__)


def rebuild(task: Any, function: Callable[..., Any], parameter: Parameter) -> Any:
    """The task for a parameter of a function; as it is, unless the annotation is a dataclass or a model.

    Raises:
        AgentError: When the task does not fit the annotation.
    """
    declared = _resolve(parameter.annotation, function)
    if not _is_rebuilt(declared):
        return task
    try:
        return _adapter(declared).validate_python(task)
    except ValidationError as error:
        raise AgentError(f"the task is not what {parameter} asks for: {error}") from error


def _is_rebuilt(declared: Any) -> bool:
    return isinstance(declared, type) and (issubclass(declared, BaseModel) or dataclasses.is_dataclass(declared))


@functools.cache
def _adapter(declared: type) -> TypeAdapter[Any]:
    return TypeAdapter(declared)


def _resolve(annotation: Any, function: Callable[..., Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    holder = SimpleNamespace(__annotations__={"task": annotation})
    try:
        return get_type_hints(holder, _globals(function))["task"]
    except NameError as error:
        _log.debug("the annotation %r of %r is not resolved: %s", annotation, function, error)
        return None


def _globals(function: Callable[..., Any]) -> dict[str, Any]:
    """The names of the module that the parameters were written in, below whatever the function was wrapped in."""
    while isinstance(function, functools.partial):
        function = function.func
    written = inspect.unwrap(getattr(function, "__func__", function))
    if not hasattr(written, "__globals__"):
        written = type(written).__call__
    names: dict[str, Any] = getattr(written, "__globals__", {})
    return names
