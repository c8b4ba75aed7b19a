"""The SDK's models to and from the protocol's messages. Pure translation."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic_core import PydanticSerializationError, to_jsonable_python

from agentlightning.errors import InvalidRequestError
from agentlightning.types import (
    LLM,
    Attempt,
    AttemptedRollout,
    AttemptStatus,
    CustomResource,
    Event,
    Failure,
    FailureKind,
    Link,
    OtelResource,
    PromptTemplate,
    ProxyLLM,
    Resource,
    ResourcesUpdate,
    Rollout,
    RolloutConfig,
    RolloutMode,
    RolloutStatus,
    Run,
    RunStatus,
    Span,
    SpanContext,
    TraceStatus,
    Worker,
    WorkerStatus,
    as_resource,
)
from agentlightning.types.span import SpanKind
from agentlightning.v1 import attempt_pb2, resources_pb2, rollout_pb2, run_pb2, span_pb2, worker_pb2

_NANO = 1_000_000_000
_SPAN_STATUS_CODES = {
    "UNSET": span_pb2.SpanStatusCode.SPAN_STATUS_CODE_UNSPECIFIED,
    "OK": span_pb2.SpanStatusCode.SPAN_STATUS_CODE_OK,
    "ERROR": span_pb2.SpanStatusCode.SPAN_STATUS_CODE_ERROR,
}


def to_json(field: str, value: Any) -> str:
    """JSON text of plain data, dataclasses and pydantic models.

    Raises:
        InvalidRequestError: It cannot be said in JSON.
    """
    try:
        return json.dumps(value, default=to_jsonable_python, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, PydanticSerializationError, RecursionError) as error:
        raise InvalidRequestError(
            f"{field} is {_shortened(repr(value))}, expected something that JSON can say: {error}",
            code="INVALID_ARGUMENT",
        ) from error


def from_json(text: str) -> Any:
    """The data of JSON text; None of no text."""
    return json.loads(text) if text else None


def enum_name(enum: Any, prefix: str, value: int) -> str:
    """A wire enum's value as a word of the SDK."""
    return str(enum.Name(value)).removeprefix(prefix).lower()


def seconds(time: Timestamp | Duration) -> float:
    """A message as seconds."""
    return time.seconds + time.nanos / _NANO


def timestamp(time: float | None) -> Timestamp | None:
    """Unix seconds as a message."""
    nanos = None if time is None else round(time * _NANO)
    return None if nanos is None else Timestamp(seconds=nanos // _NANO, nanos=nanos % _NANO)


def duration(value: float | None) -> Duration | None:
    """Seconds as a message."""
    nanos = None if value is None else round(value * _NANO)
    return None if nanos is None else Duration(seconds=nanos // _NANO, nanos=nanos % _NANO)


def rollout_to_proto(
    input: Any,
    *,
    mode: RolloutMode | None,
    resources_id: str | None,
    config: RolloutConfig | None,
    metadata: Mapping[str, Any] | None,
    labels: Mapping[str, str] | None,
    run_id: str | None,
    queue: str | None,
) -> rollout_pb2.Rollout:
    """The rollout that somebody wants to be."""
    return rollout_pb2.Rollout(
        input_json=to_json("input", input),
        mode=mode_to_proto(mode),
        resources_id=resources_id or "",
        config=None if config is None else config_to_proto(config),
        metadata_json=to_json("metadata", metadata if metadata is not None else {}),
        labels=labels or {},
        run_id=run_id or "",
        queue=queue or "",
    )


def mode_to_proto(mode: RolloutMode | None) -> "rollout_pb2.RolloutMode.ValueType":
    """A mode as the wire has it."""
    names = {None: "UNSPECIFIED", "train": "TRAIN", "val": "VAL", "test": "TEST"}
    if mode not in names:
        raise InvalidRequestError(f"mode is {mode!r}, expected train, val, test or None", code="INVALID_ARGUMENT")
    return rollout_pb2.RolloutMode.Value(f"ROLLOUT_MODE_{names[mode]}")


def config_to_proto(config: RolloutConfig) -> rollout_pb2.RolloutConfig:
    """A config as the wire has it."""
    return rollout_pb2.RolloutConfig(
        timeout=duration(config.timeout_seconds),
        unresponsive_timeout=duration(config.unresponsive_seconds),
        max_attempts=config.max_attempts,
        retry_condition=[attempt_status_to_proto(status) for status in config.retry_condition],
        max_redeliveries=config.max_redeliveries,
    )


def attempt_status_to_proto(status: AttemptStatus) -> "attempt_pb2.AttemptStatus.ValueType":
    """A status as the wire has it."""
    return attempt_pb2.AttemptStatus.Value(f"ATTEMPT_STATUS_{status.upper()}")


def rollout_status_to_proto(status: RolloutStatus) -> "rollout_pb2.RolloutStatus.ValueType":
    """A status as the wire has it."""
    return rollout_pb2.RolloutStatus.Value(f"ROLLOUT_STATUS_{status.upper()}")


def rollout_from_proto(message: rollout_pb2.Rollout) -> Rollout | AttemptedRollout:
    """A rollout, with its latest attempt if it has one."""
    fields = _rollout_fields(message)
    if message.HasField("latest_attempt"):
        return AttemptedRollout(attempt=attempt_from_proto(message.latest_attempt), **fields)
    return Rollout(**fields)


def assignment_from_proto(message: rollout_pb2.Assignment) -> AttemptedRollout:
    """A rollout with the attempt that its worker was given."""
    attempt = attempt_from_proto(message.attempt)
    return AttemptedRollout(
        attempt=attempt, next_sequence_id=message.next_sequence_id, **_rollout_fields(message.rollout)
    )


def attempt_from_proto(message: attempt_pb2.Attempt) -> Attempt:
    """An attempt."""
    return Attempt(
        rollout_id=message.rollout_id,
        attempt_id=message.attempt_id,
        sequence_id=message.sequence_id,
        start_time=seconds(message.start_time),
        end_time=_optional_seconds(message, "end_time"),
        status=attempt_status_from_proto(message.status),
        worker_id=message.worker_id or None,
        last_heartbeat_time=_optional_seconds(message, "last_heartbeat_time"),
        metadata=from_json(message.metadata_json),
        failure=failure_from_proto(message.failure) if message.HasField("failure") else None,
        final_reward=message.final_reward if message.HasField("final_reward") else None,
        lost_span_count=message.lost_span_count,
    )


def attempt_status_from_proto(status: "attempt_pb2.AttemptStatus.ValueType") -> AttemptStatus:
    """A status as the SDK has it."""
    return cast(AttemptStatus, enum_name(attempt_pb2.AttemptStatus, "ATTEMPT_STATUS_", status))


def failure_from_proto(message: attempt_pb2.Failure) -> Failure:
    """Why an attempt did not succeed."""
    kind = enum_name(attempt_pb2.FailureKind, "FAILURE_KIND_", message.kind)
    return Failure(
        kind=cast(FailureKind, "agent" if kind == "unspecified" else kind),
        type=message.type,
        message=message.message,
        stack_trace=message.stack_trace,
    )


def failure_to_proto(failure: Failure) -> attempt_pb2.Failure:
    """Why an attempt did not succeed, as the wire has it."""
    return attempt_pb2.Failure(
        kind=attempt_pb2.FailureKind.Value(f"FAILURE_KIND_{failure.kind.upper()}"),
        type=failure.type,
        message=failure.message,
        stack_trace=failure.stack_trace,
    )


def resources_to_proto(resources: Mapping[str, Any]) -> list[resources_pb2.Resource]:
    """A bundle as the wire has it."""
    return [_resource_to_proto(name, as_resource(value)) for name, value in resources.items()]


def resources_from_proto(message: resources_pb2.Resources) -> ResourcesUpdate:
    """One version of a bundle."""
    return ResourcesUpdate(
        resources_id=message.resources_id,
        version=message.version,
        create_time=seconds(message.create_time),
        update_time=seconds(message.update_time),
        resources={resource.name: _resource_from_proto(resource) for resource in message.resources},
        run_id=message.run_id or None,
    )


def run_from_proto(message: run_pb2.Run) -> Run:
    """A run."""
    return Run(
        run_id=message.run_id,
        algorithm=message.algorithm,
        status=cast(RunStatus, enum_name(run_pb2.RunStatus, "RUN_STATUS_", message.status)),
        queue=message.queue,
        config=from_json(message.config_json),
        checkpoint=from_json(message.checkpoint_json),
        summary=from_json(message.summary_json),
        best_resources_id=message.best_resources_id or None,
        best_resources_version=message.best_resources_version or None,
        failure=failure_from_proto(message.failure) if message.HasField("failure") else None,
        labels=dict(message.labels),
        create_time=seconds(message.create_time),
        end_time=_optional_seconds(message, "end_time"),
        revision=message.revision,
    )


def run_status_to_proto(status: RunStatus) -> "run_pb2.RunStatus.ValueType":
    """A status as the wire has it."""
    return run_pb2.RunStatus.Value(f"RUN_STATUS_{status.upper()}")


def worker_from_proto(message: worker_pb2.Worker) -> Worker:
    """A worker."""
    return Worker(
        worker_id=message.worker_id,
        status=cast(WorkerStatus, enum_name(worker_pb2.WorkerStatus, "WORKER_STATUS_", message.status)),
        heartbeat_stats=from_json(message.heartbeat_stats_json),
        last_heartbeat_time=_optional_seconds(message, "last_heartbeat_time"),
        last_dequeue_time=_optional_seconds(message, "last_dequeue_time"),
        last_busy_time=_optional_seconds(message, "last_busy_time"),
        last_idle_time=_optional_seconds(message, "last_idle_time"),
        current_rollout_id=message.current_rollout_id or None,
        current_attempt_id=message.current_attempt_id or None,
    )


def span_to_proto(span: Span) -> span_pb2.Span:
    """A span as the wire has it."""
    return span_pb2.Span(
        rollout_id=span.rollout_id,
        attempt_id=span.attempt_id,
        sequence_id=span.sequence_id,
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_id or "",
        name=span.name,
        kind=span_pb2.SpanKind.Value(f"SPAN_KIND_{span.kind}"),
        start_time=timestamp(span.start_time),
        end_time=timestamp(span.end_time),
        status=span_pb2.SpanStatus(
            code=_SPAN_STATUS_CODES[span.status.status_code],
            message=span.status.description or "",
        ),
        attributes=_attributes_to_proto(span.attributes),
        events=[
            span_pb2.SpanEvent(
                time=timestamp(event.timestamp), name=event.name, attributes=_attributes_to_proto(event.attributes)
            )
            for event in span.events
        ],
        links=[
            span_pb2.SpanLink(
                trace_id=link.context.trace_id,
                span_id=link.context.span_id,
                attributes=_attributes_to_proto(link.attributes or {}),
            )
            for link in span.links
        ],
        resource=span_pb2.SpanResource(
            attributes=_attributes_to_proto(span.resource.attributes), schema_url=span.resource.schema_url
        ),
    )


def span_from_proto(message: span_pb2.Span) -> Span:
    """A span."""
    code = enum_name(span_pb2.SpanStatusCode, "SPAN_STATUS_CODE_", message.status.code).upper()
    return Span(
        rollout_id=message.rollout_id,
        attempt_id=message.attempt_id,
        sequence_id=message.sequence_id,
        trace_id=message.trace_id,
        span_id=message.span_id,
        parent_id=message.parent_span_id or None,
        name=message.name,
        kind=cast(SpanKind, enum_name(span_pb2.SpanKind, "SPAN_KIND_", message.kind).upper()),
        status=TraceStatus(
            status_code=cast(Any, "UNSET" if code == "UNSPECIFIED" else code),
            description=message.status.message or None,
        ),
        attributes=_attributes_from_proto(message.attributes),
        events=[
            Event(
                name=event.name,
                attributes=_attributes_from_proto(event.attributes),
                timestamp=_optional_seconds(event, "time"),
            )
            for event in message.events
        ],
        links=[
            Link(
                context=SpanContext(trace_id=link.trace_id, span_id=link.span_id),
                attributes=_attributes_from_proto(link.attributes),
            )
            for link in message.links
        ],
        start_time=_optional_seconds(message, "start_time"),
        end_time=_optional_seconds(message, "end_time"),
        context=SpanContext(trace_id=message.trace_id, span_id=message.span_id),
        parent=_parent(message),
        resource=OtelResource(
            attributes=_attributes_from_proto(message.resource.attributes), schema_url=message.resource.schema_url
        ),
    )


def _rollout_fields(message: rollout_pb2.Rollout) -> dict[str, Any]:
    mode = enum_name(rollout_pb2.RolloutMode, "ROLLOUT_MODE_", message.mode)
    return {
        "rollout_id": message.rollout_id,
        "input": from_json(message.input_json),
        "start_time": seconds(message.create_time),
        "end_time": _optional_seconds(message, "end_time"),
        "mode": None if mode == "unspecified" else mode,
        "resources_id": message.resources_id or None,
        "resources_version": message.resources_version or None,
        "status": enum_name(rollout_pb2.RolloutStatus, "ROLLOUT_STATUS_", message.status),
        "config": _config_from_proto(message.config),
        "metadata": from_json(message.metadata_json),
        "labels": dict(message.labels),
        "queue": message.queue,
        "run_id": message.run_id or None,
    }


def _config_from_proto(message: rollout_pb2.RolloutConfig) -> RolloutConfig:
    return RolloutConfig(
        timeout_seconds=_optional_seconds(message, "timeout"),
        unresponsive_seconds=_optional_seconds(message, "unresponsive_timeout"),
        max_attempts=message.max_attempts or 1,
        retry_condition=[attempt_status_from_proto(status) for status in message.retry_condition],
        max_redeliveries=message.max_redeliveries,
    )


def _resource_to_proto(name: str, resource: Resource) -> resources_pb2.Resource:
    match resource:
        case PromptTemplate():
            engine = resource.engine.upper().replace("-", "_")
            return resources_pb2.Resource(
                name=name,
                prompt_template=resources_pb2.PromptTemplate(
                    template=resource.template, engine=resources_pb2.TemplateEngine.Value(f"TEMPLATE_ENGINE_{engine}")
                ),
            )
        case LLM():
            sampling = to_json(f"resources[{name!r}].sampling_parameters", resource.sampling_parameters)
            return resources_pb2.Resource(
                name=name,
                llm=resources_pb2.LLM(
                    endpoint=resource.endpoint,
                    model=resource.model,
                    api_key=resource.api_key or "",
                    sampling_parameters_json=sampling,
                    proxy=isinstance(resource, ProxyLLM),
                ),
            )
        case CustomResource():
            return resources_pb2.Resource(name=name, custom_json=to_json(f"resources[{name!r}]", resource.value))


def _resource_from_proto(message: resources_pb2.Resource) -> Resource:
    match message.WhichOneof("kind"):
        case "prompt_template":
            engine = enum_name(resources_pb2.TemplateEngine, "TEMPLATE_ENGINE_", message.prompt_template.engine)
            named = {"jinja": "jinja", "poml": "poml"}.get(engine, "f-string")
            return PromptTemplate(template=message.prompt_template.template, engine=cast(Any, named))
        case "llm":
            kind = ProxyLLM if message.llm.proxy else LLM
            return kind(
                endpoint=message.llm.endpoint,
                model=message.llm.model,
                api_key=message.llm.api_key or None,
                sampling_parameters=from_json(message.llm.sampling_parameters_json) or {},
            )
        case _:
            return CustomResource(value=from_json(message.custom_json))


def _attributes_to_proto(attributes: Mapping[str, Any]) -> list[span_pb2.Attribute]:
    return [span_pb2.Attribute(key=key, value=_value_to_proto(value)) for key, value in attributes.items()]


def _attributes_from_proto(attributes: Iterable[span_pb2.Attribute]) -> dict[str, Any]:
    return {attribute.key: _value_from_proto(attribute.value) for attribute in attributes}


def _value_to_proto(value: Any) -> span_pb2.AttributeValue:
    match value:
        case bool():
            return span_pb2.AttributeValue(bool_value=value)
        case int() if -(1 << 63) <= value < 1 << 63:
            return span_pb2.AttributeValue(int_value=value)
        case int() | float():
            return span_pb2.AttributeValue(double_value=float(value))
        case str():
            return span_pb2.AttributeValue(string_value=value)
        case bytes():
            return span_pb2.AttributeValue(bytes_value=value)
        case None:
            return span_pb2.AttributeValue()
        case Mapping():
            return span_pb2.AttributeValue(map_value=span_pb2.AttributeMap(entries=_attributes_to_proto(value)))
        case Sequence():
            values = [_value_to_proto(item) for item in value]
            return span_pb2.AttributeValue(list_value=span_pb2.AttributeList(values=values))
        case _:
            return span_pb2.AttributeValue(string_value=str(value))


def _value_from_proto(value: span_pb2.AttributeValue) -> Any:
    match value.WhichOneof("value"):
        case None:
            return None
        case "list_value":
            return [_value_from_proto(item) for item in value.list_value.values]
        case "map_value":
            return _attributes_from_proto(value.map_value.entries)
        case kind:
            return getattr(value, kind)


def _parent(message: span_pb2.Span) -> SpanContext | None:
    if not message.parent_span_id:
        return None
    return SpanContext(trace_id=message.trace_id, span_id=message.parent_span_id)


def _optional_seconds(message: Any, field: str) -> float | None:
    return seconds(getattr(message, field)) if message.HasField(field) else None


def _shortened(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else text[:limit] + "..."
