"""Refuses arguments that a call does not take, as its signature says, before anything is sent. Knows no call."""

import functools
import inspect
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, SupportsFloat, SupportsIndex, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel

from agentlightning.errors import InvalidRequestError
from agentlightning.store.convert import invalid
from agentlightning.types import Unset

C = TypeVar("C")
F = TypeVar("F", bound=Callable[..., Any])

_UNIONS = (types.UnionType, Union)
_PLAIN: dict[Any, tuple[type | tuple[type, ...], str]] = {
    str: (str, "a text"),
    int: (SupportsIndex, "a whole number"),
    float: ((SupportsFloat, SupportsIndex), "a number"),
    bool: (SupportsIndex, "True or False"),
}


class ArgumentError(InvalidRequestError, TypeError):
    """An argument is not of the type that its parameter takes."""


def checked(cls: type[C]) -> type[C]:
    """Make the public methods of a class refuse what their annotations do not allow."""
    for name, method in [*vars(cls).items()]:
        if inspect.isfunction(method) and (name == "__init__" or not name.startswith("_")):
            setattr(cls, name, _checked(method))
    return cls


def _checked(function: F) -> F:
    kinds = {name: parameter.annotation for name, parameter in inspect.signature(function).parameters.items()}
    names = tuple(kinds)
    plain = {name: {kind, *(get_args(kind) if get_origin(kind) in _UNIONS else ())} for name, kind in kinds.items()}

    def check(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        for name, value in (*zip(names[1:], args[1:], strict=False), *kwargs.items()):
            if name not in kinds or type(value) in plain[name]:
                continue
            if wrong := _wrong(name, value, kinds[name]):
                raise wrong

    @functools.wraps(function)
    async def awaiting(*args: Any, **kwargs: Any) -> Any:
        check(args, kwargs)
        return await function(*args, **kwargs)

    @functools.wraps(function)
    def calling(*args: Any, **kwargs: Any) -> Any:
        check(args, kwargs)
        return function(*args, **kwargs)

    return cast(F, awaiting if inspect.iscoroutinefunction(function) else calling)


def _wrong(name: str, value: Any, kind: Any) -> InvalidRequestError | None:
    """What is wrong with a value; None when nothing is."""
    origin, of = get_origin(kind), get_args(kind)
    if origin in _UNIONS:
        return _wrong_for_all(name, value, of)
    if origin is Literal:
        known = isinstance(value, str) and value in of
        return None if known else invalid(name, value, f"one of {', '.join(of)}")
    if origin is Sequence:
        return _wrong_items(name, value, of[0])
    if origin is tuple:
        is_pair = isinstance(value, (tuple, list)) and len(value) == len(of) and all(map(isinstance, value, of))
        return None if is_pair else _of_another_type(name, value, "a pair of a rollout's id and an attempt's")
    if origin in (dict, Mapping):
        return _wrong_entries(name, value, *of)
    if origin is Callable:
        return None if callable(value) else _of_another_type(name, value, "a function")
    if kind is Any or isinstance(kind, str):  # what only type checkers import
        return None
    allowed, expected = _PLAIN.get(kind) or (kind, _a(kind))
    return None if isinstance(value, allowed) else _of_another_type(name, value, expected)


def _wrong_for_all(name: str, value: Any, kinds: Sequence[Any]) -> InvalidRequestError | None:
    if type(value) in (Unset, type(None)) and type(value) in kinds:
        return None
    wrongs = [_wrong(name, value, kind) for kind in kinds if kind not in (Unset, type(None))]
    return None if None in wrongs else wrongs[0]


def _wrong_items(name: str, value: Any, kind: Any) -> InvalidRequestError | None:
    if isinstance(value, (str, bytes, BaseModel)):
        return _of_another_type(name, value, f"a list: [{value!r}]" if isinstance(value, str) else "a list of such")
    if not isinstance(value, Iterable):
        return _of_another_type(name, value, "a list")
    items = value if isinstance(value, Collection) else ()  # what can be read only once is left to the call
    if isinstance(kind, type) and all(isinstance(item, kind) for item in items):
        return None
    found = (_wrong(f"{name}[{number}]", item, kind) for number, item in enumerate(items))
    return next(filter(None, found), None)


def _wrong_entries(name: str, value: Any, key_kind: Any, value_kind: Any) -> InvalidRequestError | None:
    if not isinstance(value, Mapping):
        return _of_another_type(name, value, "a dict")
    for key, entry in value.items():
        if wrong := _wrong(f"a key of {name}", key, key_kind) or _wrong(f"{name}[{key!r}]", entry, value_kind):
            return wrong
    return None


def _a(kind: type) -> str:
    return f"{'an' if kind.__name__[0] in 'AEIOU' else 'a'} {kind.__name__}"


def _of_another_type(name: str, value: object, expected: str) -> ArgumentError:
    error = invalid(name, value, expected)
    return ArgumentError(str(error), code=error.code, reason=error.reason)
