"""The task as an agent declares it: JSON made into the dataclass or the model that the parameter is annotated with."""

import dataclasses
import functools
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
    adapter = _adapter(getattr(function, "__func__", function), parameter)
    if adapter is None:
        return task
    try:
        return adapter.validate_python(task)
    except ValidationError as error:
        raise AgentError(f"the task is not what {parameter} asks for: {error}") from error


@functools.cache
def _adapter(function: Callable[..., Any], parameter: Parameter) -> TypeAdapter[Any] | None:
    annotation = _resolve(parameter.annotation, function)
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    if is_model or (isinstance(annotation, type) and dataclasses.is_dataclass(annotation)):
        return TypeAdapter(annotation)
    return None


def _resolve(annotation: Any, function: Callable[..., Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    holder = SimpleNamespace(__annotations__={"task": annotation})
    try:
        return get_type_hints(holder, getattr(function, "__globals__", {}))["task"]
    except NameError as error:
        _log.debug("the annotation %r of %r is not resolved: %s", annotation, function, error)
        return None
