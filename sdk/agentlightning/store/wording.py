"""The store's errors in the words of the SDK: of its parameters, where the wire has fields. Knows no call."""

import re
from collections.abc import Mapping

_PARAMETERS = {
    "order_by": "sort_by",
    "page_size": "limit",
    "max_rollouts": "limit",
    "skip": "offset",
    "wait_timeout": "wait_seconds",
    "ended_for": "ended_for_seconds",
    "timeout": "timeout_seconds",
    "unresponsive_timeout": "unresponsive_seconds",
    "initial_backoff": "initial_backoff_seconds",
    "max_backoff": "max_backoff_seconds",
    "parent_span_id": "parent_id",
    "best_resources_id": "best_resources",
    "best_resources_version": "best_resources",
}
_WORD = re.compile(r"\w+")
_MESSAGES = re.compile(r"(rollout|attempt|run|resources)\.")
"""What a field lies in on the wire and not in a call."""
_DIRECTION = ", then nothing or ' desc'"


def error_in_parameters(message: str, metadata: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """What the store says of a field and the details of it, as said of a parameter; anything else as it is."""
    field, expected = metadata.get("field", ""), metadata.get("expected", "")
    if not field or not message.startswith(f"{field} "):
        return message, dict(metadata)
    parameter, value = in_parameters(_MESSAGES.sub("", field, count=1)), message.removeprefix(field)
    if expected and value.endswith(expected):
        value, expected = value.removesuffix(expected), in_parameters(expected.removesuffix(_DIRECTION))
    if parameter == "sort_by":
        value = value.replace(" desc', expected", "', expected")
    return f"{parameter}{value}{expected}", {**metadata, "field": parameter, "expected": expected}


def in_parameters(text: str) -> str:
    """A text in which the names of fields are those of parameters."""
    return _WORD.sub(lambda word: _PARAMETERS.get(word[0], word[0].removesuffix("_json")), text)
