"""The names of spans and attributes that carry meaning here, and how a reward is read, which server and SDK do alike.

Imported by the server too: it must import nothing of ours.
"""

import json
import math
from collections.abc import Mapping
from typing import Final

ROLLOUT_ID: Final = "agentlightning.rollout_id"
"""Which rollout a span belongs to: an attribute of the span or of its resource."""
ATTEMPT_ID: Final = "agentlightning.attempt_id"
"""Which attempt a span belongs to."""
SPAN_SEQUENCE_ID: Final = "agentlightning.span_sequence_id"
"""A span's place in its attempt."""

ANNOTATION_SPAN: Final = "agentlightning.annotation"
"""Name of a span that carries annotations or rewards."""
MESSAGE_SPAN: Final = "agentlightning.message"
OBJECT_SPAN: Final = "agentlightning.object"
EXCEPTION_SPAN: Final = "agentlightning.exception"
OPERATION_SPAN: Final = "agentlightning.operation"
VIRTUAL_SPAN: Final = "agentlightning.virtual"
ROLLOUT_SPAN: Final = "agentlightning.rollout"
"""Name of the root span of an attempt."""

REWARD_PREFIX: Final = "agentlightning.reward"
"""`agentlightning.reward.<i>.name` and `.value`: named numbers, the first of which is the primary one."""
PRIMARY_REWARD_VALUE: Final = "agentlightning.reward.0.value"
PRIMARY_REWARD_NAME: Final = "primary"
OLD_REWARD: Final = "reward"
"""Where annotations had their reward up to version 0.2."""
OLD_REWARD_SPANS: Final = frozenset({ANNOTATION_SPAN, REWARD_PREFIX})
"""Names of the spans that had it there."""
OLD_REWARD_OUTPUTS: Final = ("agentops.task.output", "agentops.entity.output")
"""Where a function that AgentOps recorded has its result; that of a reward is `{"type": "reward", "value": ...}`."""
REWARD_KEYS: Final = frozenset({PRIMARY_REWARD_VALUE, OLD_REWARD, *OLD_REWARD_OUTPUTS})
"""All the attributes that may hold the primary number of a reward."""

MESSAGE_BODY: Final = "agentlightning.message.body"
OBJECT_TYPE: Final = "agentlightning.object.type"
OBJECT_LITERAL: Final = "agentlightning.object.literal"
OBJECT_JSON: Final = "agentlightning.object.json"

OPERATION_NAME: Final = "agentlightning.operation.name"
"""What is done. `agentlightning.reward` finds a reward: the calls of models in it are no part of the agent's work."""
OPERATION_INPUT: Final = "agentlightning.operation.input"
"""`agentlightning.operation.input.<parameter>`: what went in, nested values by their path."""
OPERATION_OUTPUT: Final = "agentlightning.operation.output"
"""What came out: one value, or nested ones by their path."""

PROCESS_STDOUT: Final = "agentlightning.process.stdout"
"""The end of what a command printed, on the span of its process."""
PROCESS_STDERR: Final = "agentlightning.process.stderr"

TAG_PREFIX: Final = "agentlightning.tag"
"""`agentlightning.tag.<i>`: words to find a span by."""
LINK_PREFIX: Final = "agentlightning.link"
"""`agentlightning.link.<i>.key_match` and `.value_match`: which other spans a span is about."""

EXTRA_FIELDS: Final = "agentlightning.extra_fields"
"""JSON of what a Python span had beyond its model's fields, so that it comes back: no other reader need know it."""


def primary_reward(name: str, attributes: Mapping[str, object]) -> float | None:
    """The primary number of a span's reward, as this version or an earlier one recorded it. None: it has none."""
    outputs = [_decoded(attributes.get(key)) for key in OLD_REWARD_OUTPUTS if key in attributes]
    values = [output.get("value") for output in outputs if isinstance(output, dict) and output.get("type") == "reward"]
    if name in OLD_REWARD_SPANS:
        values.append(attributes.get(OLD_REWARD))
    numbers = map(finite_number, [attributes.get(PRIMARY_REWARD_VALUE), *values])
    return next((number for number in numbers if number is not None), None)


def finite_number(value: object) -> float | None:
    """The value as a float, None when it is no number or one that is not finite."""
    try:
        number = float(value) if isinstance(value, (int, float)) else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _decoded(value: object) -> object:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return None
