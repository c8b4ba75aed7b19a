"""A piece of the agent's work as a span, with what went in, what came out, and what happened inside as its children.

Knows OpenTelemetry's context; the tracer is looked up when the work begins, never when it is written.
"""

import functools
import inspect
import time
from collections.abc import Callable, Mapping
from contextvars import Token
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast, overload

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, Status, StatusCode, set_span_in_context

from agentlightning.emitter.attributes import AttributeValue, flatten, flatten_finite
from agentlightning.emitter.recording import core_fields, start
from agentlightning.semconv import OPERATION_INPUT, OPERATION_NAME, OPERATION_OUTPUT, OPERATION_SPAN
from agentlightning.types import SpanCoreFields, TraceStatus

F = TypeVar("F", bound=Callable[..., Any])

_RECEIVERS: Final = frozenset({"self", "cls"})
_SECRETS: Final = (".api_key",)
"""Ends of names that are left out: an `LLM` is often an argument, and spans are read by many."""


class Operation:
    """One operation while it is worked on: the context that `operation` makes. It is entered once.

    >>> with operation(name="search", index="rooms") as search:
    ...     search.set_output(["Lyra"])
    >>> search.span().name
    'agentlightning.operation'
    """

    def __init__(self, attributes: Mapping[str, AttributeValue], *, propagate: bool = True) -> None:
        self._attributes = dict(attributes)
        self._propagate = propagate
        self._span: Span | None = None
        self._start_time = 0
        self._token: Token[Context] | None = None
        self._fields: SpanCoreFields | None = None

    def __call__(self, function: F) -> F:
        """Make each call of a function an operation of this kind."""
        return _decorate(function, self._attributes, self._propagate)

    def __enter__(self) -> Self:
        if self._span is not None:
            raise RuntimeError("an operation is entered once: write `with operation(...)` each time")
        self._start_time = time.time_ns()
        self._span = start(OPERATION_SPAN, self._attributes, self._start_time, propagate=self._propagate)
        if self._span is not INVALID_SPAN:  # Else the caller's own span, if any, stays the current one.
            self._token = otel_context.attach(set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            otel_context.detach(self._token)
        status = _status(error)
        span, end_time = self._open_span(), time.time_ns()
        if error is not None:
            span.record_exception(error)
        span.set_status(Status(StatusCode[status.status_code], status.description))
        span.end(end_time)
        self._fields = core_fields(OPERATION_SPAN, self._attributes, self._start_time, end_time, status)

    def set_input(self, /, *args: Any, **kwargs: Any) -> None:
        """Record what went in: arguments by position under `args`, others by name.

        Raises:
            RuntimeError: Outside of the `with` block.

        >>> with operation(name="search") as search:
        ...     search.set_input("rooms", seats=4)
        >>> search.span().attributes["agentlightning.operation.input.seats"]
        4
        """
        self._set(flatten(_by_position("args", args) | kwargs, f"{OPERATION_INPUT}."))

    def set_output(self, output: Any) -> None:
        """Record what came out: the fields of a mapping or a model by name, anything else as one value.

        Raises:
            RuntimeError: Outside of the `with` block.

        >>> with operation(name="search") as search:
        ...     search.set_output({"rooms": ["Lyra", "Vega"]})
        >>> search.span().attributes["agentlightning.operation.output.rooms"]
        ['Lyra', 'Vega']
        """
        self._set(flatten({OPERATION_OUTPUT: output}))

    def span(self) -> SpanCoreFields:
        """What was, or would have been, recorded.

        Raises:
            RuntimeError: Before the `with` block has ended.

        >>> with operation(name="search") as search:
        ...     pass
        >>> search.span().status.status_code
        'OK'
        """
        if self._fields is None:
            raise RuntimeError("the span of an operation is ready when its `with` block has ended")
        return self._fields

    def _set(self, attributes: Mapping[str, AttributeValue]) -> None:
        told = {key: value for key, value in attributes.items() if not key.endswith(_SECRETS)}
        self._open_span().set_attributes(told)
        self._attributes |= told

    def _open_span(self) -> Span:
        if self._span is None or self._fields is not None:
            raise RuntimeError("the input and the output of an operation are set inside its `with` block")
        return self._span


@overload
def operation(fn: F) -> F: ...


@overload
def operation(fn: None = None, *, propagate: bool = True, name: str | None = None, **attributes: Any) -> Operation: ...


def operation(
    fn: Callable[..., Any] | None = None, *, propagate: bool = True, name: str | None = None, **attributes: Any
) -> Any:
    """Record a piece of work as a span: each call of a function, or a `with` block. Spans made inside are its children.

    A decorated function, async or not, has its arguments recorded (defaults too, `self` and `api_key` not), and what
    it returns. An exception is recorded and goes on its way. Outside of a rollout nothing is recorded.

    Args:
        fn: The function, where this decorates it without parentheses.
        propagate: Whether to record the span at all, or only to build it.
        name: The name of the operation; the function's, unless given.
        attributes: Anything else to record with it.

    Raises:
        ValueError: When what it is given is no function, a name is given twice, or a number is not finite.
        TypeError: When the function is a generator.

    >>> @operation
    ... def double(number: int) -> int:
    ...     return 2 * number
    >>> double(4)
    8
    >>> with operation(name="search", index="rooms") as search:
    ...     search.set_input(seats=4)
    ...     search.set_output(["Lyra"])
    >>> for name, value in search.span().attributes.items():
    ...     print(name, value)
    index rooms
    agentlightning.operation.name search
    agentlightning.operation.input.seats 4
    agentlightning.operation.output ['Lyra']
    """
    fixed = flatten_finite(attributes)
    if name is not None and fixed.setdefault(OPERATION_NAME, name) != name:
        raise ValueError(f"the operation has two names: name={name!r} and {OPERATION_NAME}={fixed[OPERATION_NAME]!r}")
    return Operation(fixed, propagate=propagate) if fn is None else _decorate(fn, fixed, propagate)


def _decorate(function: F, attributes: Mapping[str, AttributeValue], propagate: bool) -> F:
    _check(function)
    fixed = {OPERATION_NAME: getattr(function, "__name__", type(function).__name__), **attributes}
    signature = _signature(function)

    @functools.wraps(function)
    async def working_async(*args: Any, **kwargs: Any) -> Any:
        with Operation(fixed, propagate=propagate) as work:
            work.set_input(**_arguments(signature, args, kwargs))
            output = await function(*args, **kwargs)
            work.set_output(output)
            return output

    @functools.wraps(function)
    def working(*args: Any, **kwargs: Any) -> Any:
        with Operation(fixed, propagate=propagate) as work:
            work.set_input(**_arguments(signature, args, kwargs))
            output = function(*args, **kwargs)
            work.set_output(output)
            return output

    return cast(F, working_async if inspect.iscoroutinefunction(function) else working)


def _check(function: object) -> None:
    if isinstance(function, (staticmethod, classmethod)):
        raise ValueError(f"write @operation below @{type(function).__name__}: it decorates the function itself")
    if not callable(function):
        raise ValueError(f"operation decorates a function; it is given {function!r}: a name is given as name=...")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"operation cannot decorate the generator {function!r}: write `with operation(...)` inside it")


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # Some that are written in C have none.
        return None


def _arguments(signature: inspect.Signature | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    try:
        bound = signature.bind(*args, **kwargs) if signature else None
    except TypeError:  # The call itself will say why.
        bound = None
    if signature is None or bound is None:
        return {**_by_position("args", args), **kwargs}
    bound.apply_defaults()
    arguments = {name: value for name, value in bound.arguments.items() if name not in _RECEIVERS}
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            arguments |= _by_position(name, arguments.pop(name))
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            arguments |= {f"{name}.{key}": value for key, value in arguments.pop(name).items()}
    return arguments


def _by_position(name: str, values: tuple[Any, ...]) -> dict[str, Any]:
    return {f"{name}.{position}": value for position, value in enumerate(values)}


def _status(error: BaseException | None) -> TraceStatus:
    if error is None:
        return TraceStatus(status_code="OK")
    return TraceStatus(status_code="ERROR", description=f"{type(error).__name__}: {error}")
