"""Rewards: named numbers on a span, the first of which is the primary one. Knows how they are written and read."""

import functools
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, SupportsFloat, TypeVar, cast

from agentlightning.emitter.attributes import AttributeValue, flatten_finite
from agentlightning.emitter.operations import operation
from agentlightning.emitter.recording import HasAttributes, record
from agentlightning.semconv import (
    ANNOTATION_SPAN,
    PRIMARY_REWARD_NAME,
    REWARD_PREFIX,
    finite_number,
    primary_reward,
)
from agentlightning.types import SpanCoreFields

F = TypeVar("F", bound=Callable[..., Any])
SpanT = TypeVar("SpanT", bound=HasAttributes)

_VALUE_KEY: Final = re.compile(rf"{re.escape(REWARD_PREFIX)}\.(0|[1-9][0-9]*)\.value")


class Reward(NamedTuple):
    """One named number.

    >>> Reward("primary", 0.5).value
    0.5
    """

    name: str
    value: float


def emit_reward(
    reward: SupportsFloat | Mapping[str, SupportsFloat],
    *,
    primary_key: str | None = None,
    attributes: Mapping[str, Any] | None = None,
    propagate: bool = True,
) -> SpanCoreFields:
    """Record a reward.

    Args:
        reward: A number, or several by name.
        primary_key: Which of several is the primary one; see `reward_attributes`.
        attributes: Anything else to record with it.
        propagate: Whether to record the span at all, or only to build it.

    Raises:
        TypeError: When the reward is not a number.
        ValueError: When a number is not finite, there is none, or `primary_key` names none.

    >>> get_reward_value(emit_reward({"fits": 0.5, "polite": 1}))
    0.5
    """
    carried = reward_attributes(reward, primary_key)
    return record(ANNOTATION_SPAN, {**flatten_finite(attributes or {}), **carried}, propagate=propagate)


def reward(function: F) -> F:
    """Make a function or a method, async or not, emit what it returns as a reward: a number, or several by name.

    What it does, such as asking a judge, lies in an operation of its own, so that no call of a model in it counts as
    the agent's. The reward comes after it, beside what it is for.

    Raises:
        TypeError: When called, and what it returns is not a number.
        ValueError: When called, and a number is not finite or there is none.

    >>> @reward
    ... def grade(answer: str) -> float:
    ...     return 1.0 if answer == "Lyra" else 0.0
    >>> grade("Lyra")
    1.0
    """

    @functools.wraps(function)
    async def emitting_async(*args: Any, **kwargs: Any) -> Any:
        with operation(name=REWARD_PREFIX):
            value = await function(*args, **kwargs)
        emit_reward(value)
        return value

    @functools.wraps(function)
    def emitting(*args: Any, **kwargs: Any) -> Any:
        with operation(name=REWARD_PREFIX):
            value = function(*args, **kwargs)
        emit_reward(value)
        return value

    return cast(F, emitting_async if inspect.iscoroutinefunction(function) else emitting)


def reward_attributes(
    reward: SupportsFloat | Mapping[str, SupportsFloat], primary_key: str | None = None
) -> dict[str, AttributeValue]:
    """The attributes that carry a reward.

    Of several numbers the primary one is `primary_key`, else the one named `primary` or `reward`, else the first.

    Raises:
        TypeError: When the reward is not a number.
        ValueError: When a number is not finite, there is none, or `primary_key` names none.

    >>> reward_attributes(True)
    {'agentlightning.reward.0.name': 'primary', 'agentlightning.reward.0.value': 1.0}
    """
    rewards = reward if isinstance(reward, Mapping) else {primary_key or PRIMARY_REWARD_NAME: reward}
    primary = _primary_name(rewards, primary_key)
    attributes: dict[str, AttributeValue] = {}
    for index, name in enumerate([primary, *(name for name in rewards if name != primary)]):
        attributes[f"{REWARD_PREFIX}.{index}.name"] = str(name)
        attributes[f"{REWARD_PREFIX}.{index}.value"] = _finite(name, rewards[name])
    return attributes


def get_rewards_from_span(span: HasAttributes) -> list[Reward]:
    """The named numbers of a span, the primary one first; none when it carries no reward.

    What is malformed is passed over; without a primary number, a span carries no reward.

    >>> get_rewards_from_span(emit_reward({"fits": 0.5, "polite": 1}))
    [Reward(name='fits', value=0.5), Reward(name='polite', value=1.0)]
    """
    attributes = span.attributes or {}
    keys = sorted((int(match[1]), key) for key in attributes if (match := _VALUE_KEY.fullmatch(key)))
    rewards = {
        index: Reward(str(attributes.get(f"{REWARD_PREFIX}.{index}.name", PRIMARY_REWARD_NAME)), value)
        for index, key in keys
        if (value := finite_number(attributes[key])) is not None
    }
    if 0 in rewards:
        return list(rewards.values())
    old = primary_reward(span.name, attributes)
    return [] if old is None else [Reward(PRIMARY_REWARD_NAME, old)]


def get_reward_value(span: HasAttributes) -> float | None:
    """The primary number of a span, None when it carries no reward.

    Rewards that earlier versions recorded are read too.

    >>> get_reward_value(emit_reward(1))
    1.0
    """
    return next((reward.value for reward in get_rewards_from_span(span)), None)


def is_reward_span(span: HasAttributes) -> bool:
    """Whether a span carries a reward.

    >>> is_reward_span(emit_reward(0))
    True
    """
    return get_reward_value(span) is not None


def find_reward_spans(spans: Iterable[SpanT]) -> list[SpanT]:
    """Those of the spans that carry a reward.

    >>> spans = [emit_reward(0.5, attributes={"step": 1}), emit_reward(1)]
    >>> find_reward_spans(spans) == spans
    True
    """
    return [span for span in spans if is_reward_span(span)]


def find_final_reward(spans: Iterable[HasAttributes]) -> float | None:
    """The primary number of the last span that carries a reward, None when none does.

    >>> find_final_reward([emit_reward(0.5), emit_reward(1)])
    1.0
    """
    values = [value for span in spans if (value := get_reward_value(span)) is not None]
    return values[-1] if values else None


def _primary_name(rewards: Mapping[str, SupportsFloat], primary_key: str | None) -> str:
    if not rewards:
        raise ValueError("a reward needs at least one named number; there is none")
    if primary_key is None:
        return next((name for name in (PRIMARY_REWARD_NAME, "reward") if name in rewards), next(iter(rewards)))
    if primary_key not in rewards:
        raise ValueError(f"primary_key is {primary_key!r}, but the rewards are {', '.join(map(repr, rewards))}")
    return primary_key


def _finite(name: str, value: SupportsFloat) -> float:
    try:
        number = float(value) if isinstance(value, SupportsFloat) else None
    except (TypeError, ValueError):  # An array has what a number has, too.
        number = None
    if number is None:
        raise TypeError(f"the reward {name!r} must be a number; it is {value!r} ({type(value).__qualname__})")
    if not math.isfinite(number):
        raise ValueError(f"the reward {name!r} is {number}; a reward must be finite")
    return number
