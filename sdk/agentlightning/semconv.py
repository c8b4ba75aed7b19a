"""The names of spans and attributes that carry meaning here. Imported by the server too: it must import nothing."""

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

TAG_PREFIX: Final = "agentlightning.tag"
"""`agentlightning.tag.<i>`: words to find a span by."""
LINK_PREFIX: Final = "agentlightning.link"
"""`agentlightning.link.<i>.key_match` and `.value_match`: which other spans a span is about."""

EXTRA_FIELDS: Final = "agentlightning.extra_fields"
"""JSON of what a Python span had beyond its model's fields, so that it comes back: no other reader need know it."""
