"""Refuses at the edge what the store could not keep or give back: text that is not JSON, limits that make no sense."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from agentlightning.v1.attempt_pb2 import AttemptStatus, FailureKind
from agentlightning.v1.resources_pb2 import Resources, TemplateEngine
from agentlightning.v1.rollout_pb2 import RetryPolicy, Rollout, RolloutConfig, RolloutMode
from agentlightning.v1.span_pb2 import Attribute, AttributeValue, Span, SpanKind, SpanStatusCode
from agentlightning.v1.store_service_pb2 import AttemptRef
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from agentlightning_server.errors import FieldInvalidError, TooLargeError

_RETRYABLE = {
    AttemptStatus.ATTEMPT_STATUS_FAILED,
    AttemptStatus.ATTEMPT_STATUS_TIMEOUT,
    AttemptStatus.ATTEMPT_STATUS_UNRESPONSIVE,
}
MAX_SEQUENCE_ID = 1 << 53  # and far from the end of the numbers, so that there is always a next
MAX_REVISION = (1 << 63) - 1
_SPAN_KINDS = frozenset(SpanKind.values())
# A double_value on the wire with all the bits of its exponent set, or what looks like one.
_PERHAPS_NOT_FINITE = re.compile(
    rb"%c.{6}[\xf0-\xff][\x7f\xff]" % (AttributeValue.DOUBLE_VALUE_FIELD_NUMBER << 3 | 1), re.DOTALL
)
_LONGEST = 315_576_000_000.0  # seconds: what protobuf allows of a Duration, and more than any clock tells
_LONGEST_FILE_NAME = 200
_SPAN_ID, _TRACE_ID = re.compile(r"[0-9a-f]{16}"), re.compile(r"[0-9a-f]{32}")


def check_count(field: str, values: Sequence[Any], limit: int) -> None:
    """Refuse more than a call takes."""
    if len(values) > limit:
        raise TooLargeError(field, len(values), limit)


def check_size(field: str, value: int, limit: int) -> None:
    """Refuse a size below nothing or above the limit."""
    if not 0 <= value <= limit:
        raise FieldInvalidError(field, value, f"0 to {limit}")


def check_text(field: str, value: str) -> None:
    """Refuse an empty text."""
    if not value:
        raise FieldInvalidError(field, value, "a text that is not empty")


def check_ref(field: str, ref: AttemptRef) -> None:
    """Refuse what names no attempt."""
    check_text(f"{field}.rollout_id", ref.rollout_id)
    check_text(f"{field}.attempt_id", ref.attempt_id)


def check_json(field: str, text: str, *, required: bool = False) -> None:
    """Refuse text that is not JSON as everybody reads it."""
    if not text and not required:
        return
    try:
        json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise FieldInvalidError(field, text, "JSON text that is not nested absurdly deep") from None
    except ValueError:
        raise FieldInvalidError(field, text, "JSON text, without NaN or Infinity") from None


def check_json_object(field: str, text: str) -> None:
    """Refuse text that is not a JSON object; nothing is fine."""
    check_json(field, text)
    if text and not text.lstrip().startswith("{"):
        raise FieldInvalidError(field, text, "a JSON object")


def check_file_name(field: str, name: str) -> None:
    """Refuse what would lie in another folder, or could not be typed."""
    plain = name.isprintable() and name == name.strip() and not name.startswith(".") and not {"/", "\\"} & set(name)
    if not plain or len(name.encode()) > _LONGEST_FILE_NAME:
        expected = f"a file name without a folder, without a dot in front, of at most {_LONGEST_FILE_NAME} bytes"
        raise FieldInvalidError(field, name, expected)


def check_mask(field: str, mask: FieldMask, allowed: Iterable[str]) -> None:
    """Refuse a mask that names nothing or what cannot be changed."""
    if not mask.paths:
        raise FieldInvalidError(field, "", f"at least one of {', '.join(sorted(allowed))}")
    for path in mask.paths:
        if path not in allowed:
            raise FieldInvalidError(field, path, f"one of {', '.join(sorted(allowed))}")


def check_rollout(field: str, rollout: Rollout) -> None:
    """Refuse a rollout that could not be given to an agent."""
    check_json(f"{field}.input_json", rollout.input_json, required=True)
    check_json_object(f"{field}.metadata_json", rollout.metadata_json)
    _check_config(f"{field}.config", rollout.config)
    check_enum_if_given(f"{field}.mode", rollout.mode, RolloutMode)
    if rollout.resources_version < 0:
        raise FieldInvalidError(f"{field}.resources_version", rollout.resources_version, "0 or more")


def check_resources(field: str, resources: Resources) -> None:
    """Refuse resources that could not be given back."""
    names: set[str] = set()
    for number, resource in enumerate(resources.resources):
        at, name = f"{field}.resources[{number}]", resource.name
        if not name or name in names:
            raise FieldInvalidError(f"{at}.name", name, "a name that the others do not have")
        names.add(name)
        match resource.WhichOneof("kind"):
            case None:
                raise FieldInvalidError(at, name, "a prompt_template, an llm or custom_json")
            case "prompt_template":
                check_enum_if_given(f"{at}.prompt_template.engine", resource.prompt_template.engine, TemplateEngine)
            case "llm":
                check_json_object(f"{at}.llm.sampling_parameters_json", resource.llm.sampling_parameters_json)
            case "custom_json":
                check_json(f"{at}.custom_json", resource.custom_json, required=True)


def check_span(span: Span, at: str = "") -> None:
    """Refuse a span without an identity or with a number that is none, wherever it is in it."""
    if not _SPAN_ID.fullmatch(span.span_id):
        raise FieldInvalidError(f"{at}span_id", span.span_id, "16 lowercase hex digits")
    if not _TRACE_ID.fullmatch(span.trace_id):
        raise FieldInvalidError(f"{at}trace_id", span.trace_id, "32 lowercase hex digits")
    check_size(f"{at}sequence_id", span.sequence_id, MAX_SEQUENCE_ID)
    if span.kind not in _SPAN_KINDS:
        check_enum(f"{at}kind", span.kind, SpanKind)
    if span.HasField("status"):
        check_enum_if_given(f"{at}status.code", span.status.code, SpanStatusCode)
    if span.HasField("start_time"):
        check_time(f"{at}start_time", span.start_time)
    if span.HasField("end_time"):
        check_time(f"{at}end_time", span.end_time)
    # Spares nearly every span a look at each of its attributes.
    if _PERHAPS_NOT_FINITE.search(span.SerializeToString()):
        _check_numbers(span, at)


def check_enum(field: str, value: int, enum: Any) -> None:
    """Refuse a number that the generated enum has no name for, and none given at all."""
    if value not in enum.DESCRIPTOR.values_by_number or value == 0:
        raise FieldInvalidError(field, value, f"one of {', '.join(enum.keys()[1:])}")


def check_enum_if_given(field: str, value: int, enum: Any) -> None:
    """The same where nothing need be given."""
    if value:
        check_enum(field, value, enum)


def check_number(field: str, value: float) -> None:
    """Refuse what is no number."""
    if math.isnan(value):
        raise FieldInvalidError(field, value, "a number")


def check_time(field: str, value: Timestamp) -> None:
    """Refuse a moment that no clock tells."""
    if not (0 <= value.seconds <= _LONGEST and 0 <= value.nanos < 1_000_000_000):
        raise FieldInvalidError(field, f"{value.seconds}s {value.nanos}ns", "a moment after 1970 that a calendar has")


def positive(field: str, value: Duration) -> float:
    """A duration in seconds.

    Raises:
        FieldInvalidError: It is not positive, or longer than any clock tells.
    """
    seconds = value.seconds + value.nanos / 1e9
    if not 0 < seconds <= _LONGEST:
        raise FieldInvalidError(field, f"{seconds:g}s", "a positive duration")
    return seconds


def not_negative(field: str, value: Duration) -> float:
    """A duration in seconds, perhaps none.

    Raises:
        FieldInvalidError: It is negative, or longer than any clock tells.
    """
    seconds = value.seconds + value.nanos / 1e9
    if not 0 <= seconds <= _LONGEST:
        raise FieldInvalidError(field, f"{seconds:g}s", "0s or more")
    return seconds


def waiting(value: Duration, longest: float = _LONGEST) -> float:
    """How long somebody is willing to wait, in seconds: never less than not at all."""
    return min(max(0.0, value.seconds + value.nanos / 1e9), longest)


def _check_config(field: str, config: RolloutConfig) -> None:
    for name in ("timeout", "unresponsive_timeout"):
        if config.HasField(name):
            positive(f"{field}.{name}", getattr(config, name))
    check_size(f"{field}.max_attempts", config.max_attempts, 1000)
    check_size(f"{field}.max_redeliveries", config.max_redeliveries, 1000)
    for status in config.retry_condition:
        check_enum(f"{field}.retry_condition", status, AttemptStatus)
        if status not in _RETRYABLE:
            name = AttemptStatus.Name(status)
            raise FieldInvalidError(f"{field}.retry_condition", name, "some of failed, timeout, unresponsive")
    kinds = [policy.kind for policy in config.retry_policies]
    for number, policy in enumerate(config.retry_policies):
        at = f"{field}.retry_policies[{number}]"
        _check_retry_policy(at, policy, config.max_attempts)
        if kinds.count(policy.kind) > 1:
            raise FieldInvalidError(f"{at}.kind", FailureKind.Name(policy.kind), "a kind that the others do not have")


def _check_retry_policy(field: str, policy: RetryPolicy, max_attempts: int) -> None:
    check_enum(f"{field}.kind", policy.kind, FailureKind)
    kind = FailureKind.Name(policy.kind)
    if policy.kind == FailureKind.FAILURE_KIND_CANCELLED:
        raise FieldInvalidError(f"{field}.kind", kind, "agent, infrastructure, timeout or unresponsive")
    if policy.kind == FailureKind.FAILURE_KIND_INFRASTRUCTURE:
        if policy.HasField("max_retries"):
            raise FieldInvalidError(f"{field}.max_retries", policy.max_retries, "nothing: max_redeliveries limits it")
    elif max_attempts <= 1 and not (policy.HasField("max_retries") and policy.max_retries == 0):
        expected = f"2 or more, as {field} asks for another attempt"
        raise FieldInvalidError(f"{field.rpartition('.')[0]}.max_attempts", max_attempts or 1, expected)
    check_size(f"{field}.max_retries", policy.max_retries, 1000)
    longest = positive(f"{field}.max_backoff", policy.max_backoff) if policy.HasField("max_backoff") else math.inf
    if policy.HasField("initial_backoff") and positive(f"{field}.initial_backoff", policy.initial_backoff) > longest:
        raise FieldInvalidError(f"{field}.max_backoff", f"{longest:g}s", "initial_backoff or more")
    if policy.backoff_multiplier and not 1 <= policy.backoff_multiplier <= 10:
        raise FieldInvalidError(f"{field}.backoff_multiplier", policy.backoff_multiplier, "1 to 10")


def _check_numbers(span: Span, at: str) -> None:
    _check_attributes(f"{at}attributes", span.attributes)
    for number, event in enumerate(span.events):
        _check_attributes(f"{at}events[{number}].attributes", event.attributes)
    for number, link in enumerate(span.links):
        _check_attributes(f"{at}links[{number}].attributes", link.attributes)
    if span.HasField("scope"):
        _check_attributes(f"{at}scope.attributes", span.scope.attributes)
    if span.HasField("resource"):
        _check_attributes(f"{at}resource.attributes", span.resource.attributes)


def _check_attributes(field: str, attributes: Iterable[Attribute]) -> None:
    for attribute in attributes:
        if (number := _bad_number(attribute.value)) is not None:
            raise FieldInvalidError(f"{field}[{attribute.key!r}]", number, "a finite number")


def _bad_number(value: AttributeValue) -> float | None:
    match value.WhichOneof("value"):
        case "double_value":
            return None if math.isfinite(value.double_value) else value.double_value
        case "list_value":
            nested = list(value.list_value.values)
        case "map_value":
            nested = [entry.value for entry in value.map_value.entries]
        case _:
            return None
    return next((number for number in map(_bad_number, nested) if number is not None), None)


def _finite(number: str) -> float:
    if math.isinf(value := float(number)):  # 1e999 is JSON, and infinite to whoever reads it
        raise ValueError(number)
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
