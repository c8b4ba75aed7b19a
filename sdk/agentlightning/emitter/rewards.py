"""Rewards: named numbers on a span, the first of which is the primary one. Knows how they are written and read."""

import functools
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, SupportsFloat, TypeVar

from agentlightning.emitter.attributes import AttributeValue, flatten
from agentlightning.emitter.recording import record
from agentlightning.semconv import ANNOTATION_SPAN, PRIMARY_REWARD_NAME, REWARD_PREFIX
from agentlightning.types import SpanCoreFields

_VALUE_KEY = re.compile(rf"{re.escape(REWARD_PREFIX)}\.(\d+)\.value")


class Reward(NamedTuple):
    """One named number."""

    name: str
    value: float


class HasAttributes(Protocol):
    """A span, ours or OpenTelemetry's."""

    @property
    def attributes(self) -> Mapping[str, Any] | None:
        """What the span carries, by name."""


SpanT = TypeVar("SpanT", bound=HasAttributes)


def emit_reward(
    reward: SupportsFloat | Mapping[str, SupportsFloat],
    *,
    primary_key: str | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> SpanCoreFields:
    """Record a reward.

    Args:
        reward: A number, or several by name.
        primary_key: Which of several is the primary one; see `reward_attributes`.
        attributes: Anything else to record with it.

    Raises:
        TypeError: When the reward is not a number.
        ValueError: When a number is not finite, there is none, or `primary_key` names none.
    """
    return record(ANNOTATION_SPAN, {**flatten(attributes or {}), **reward_attributes(reward, primary_key)})


def reward(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function, async or not, emit what it returns as a reward."""

    @functools.wraps(function)
    async def emitting_async(*args: Any, **kwargs: Any) -> Any:
        value = await function(*args, **kwargs)
        emit_reward(value)
        return value

    @functools.wraps(function)
    def emitting(*args: Any, **kwargs: Any) -> Any:
        value = function(*args, **kwargs)
        emit_reward(value)
        return value

    return emitting_async if inspect.iscoroutinefunction(function) else emitting


def reward_attributes(
    reward: SupportsFloat | Mapping[str, SupportsFloat], primary_key: str | None = None
) -> dict[str, AttributeValue]:
    """The attributes that carry a reward.

    Of several numbers the primary one is `primary_key`, else the one named `primary` or `reward`, else the first.

    Raises:
        TypeError: When the reward is not a number.
        ValueError: When a number is not finite, there is none, or `primary_key` names none.
    """
    rewards = reward if isinstance(reward, Mapping) else {primary_key or PRIMARY_REWARD_NAME: reward}
    primary = _primary_name(rewards, primary_key)
    attributes: dict[str, AttributeValue] = {}
    for index, name in enumerate([primary, *(name for name in rewards if name != primary)]):
        attributes[f"{REWARD_PREFIX}.{index}.name"] = str(name)
        attributes[f"{REWARD_PREFIX}.{index}.value"] = _finite(name, rewards[name])
    return attributes


def get_rewards_from_span(span: HasAttributes) -> list[Reward]:
    """The named numbers of a span, the primary one first; none when it carries no reward."""
    attributes = span.attributes or {}
    found = sorted((int(match[1]), value) for key, value in attributes.items() if (match := _VALUE_KEY.fullmatch(key)))
    return [
        Reward(str(attributes.get(f"{REWARD_PREFIX}.{index}.name", PRIMARY_REWARD_NAME)), float(value))
        for index, value in found
        if isinstance(value, (int, float))
    ]


def get_reward_value(span: HasAttributes) -> float | None:
    """The primary number of a span, None when it carries no reward."""
    return next((reward.value for reward in get_rewards_from_span(span)), None)


def is_reward_span(span: HasAttributes) -> bool:
    """Whether a span carries a reward."""
    return get_reward_value(span) is not None


def find_reward_spans(spans: Iterable[SpanT]) -> list[SpanT]:
    """Those of the spans that carry a reward."""
    return [span for span in spans if is_reward_span(span)]


def find_final_reward(spans: Iterable[HasAttributes]) -> float | None:
    """The primary number of the last span that carries a reward, None when none does."""
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
    if not isinstance(value, SupportsFloat):
        raise TypeError(f"the reward {name!r} must be a number; it is {value!r} ({type(value).__qualname__})")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"the reward {name!r} is {number}; a reward must be finite")
    return number
