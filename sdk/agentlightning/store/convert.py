"""The SDK's models to and from the protocol's messages, all but spans. Pure translation."""

import functools
import json
import math
from collections.abc import Mapping
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
    Change,
    CustomResource,
    Deleted,
    Failure,
    FailureKind,
    LightningStoreStatistics,
    PromptTemplate,
    ProxyLLM,
    Resource,
    ResourcesUpdate,
    RetryPolicy,
    Rollout,
    RolloutConfig,
    RolloutMode,
    RolloutStatus,
    Run,
    RunStatus,
    Worker,
    WorkerStatus,
    as_resource,
)
from agentlightning.v1 import attempt_pb2, resources_pb2, rollout_pb2, run_pb2, worker_pb2
from agentlightning.v1 import store_service_pb2 as pb

_NANO = 1_000_000_000
_LONGEST = 315_576_000_000.0
"""Seconds: what protobuf allows of a duration."""


def to_json(field: str, value: Any) -> str:
    """JSON text of plain data, dataclasses and pydantic models.

    Raises:
        InvalidRequestError: It cannot be said in JSON.
    """
    try:
        text = json.dumps(value, default=to_jsonable_python, allow_nan=False, ensure_ascii=False)
        if not text.isascii():
            text.encode()  # half of a surrogate pair is no text
        return text
    except (TypeError, ValueError, PydanticSerializationError, RecursionError) as error:
        raise invalid(field, value, f"something that JSON can say: {error}") from error


def to_json_object(field: str, value: object) -> str:
    """A dict as JSON text.

    Raises:
        InvalidRequestError: It is none, or cannot be said in JSON.
    """
    if not isinstance(value, Mapping):
        raise invalid(field, value, "a dict")
    return to_json(field, value)


def from_json(text: str) -> Any:
    """The data of JSON text; None of no text."""
    return json.loads(text) if text else None


def invalid(field: str, value: object, expected: str) -> InvalidRequestError:
    """A field has a value it cannot have."""
    message = f"{field} is {_shortened(repr(value))}, expected {expected}"
    return InvalidRequestError(message, code="INVALID_ARGUMENT", reason="FIELD_INVALID")


@functools.lru_cache
def enum_name(enum: Any, prefix: str, value: int) -> str:
    """A wire enum's value as a word of the SDK."""
    known = value if value in enum.values() else 0  # a newer store's word is none here
    return str(enum.Name(known)).removeprefix(prefix).lower()


def enum_value(field: str, enum: Any, prefix: str, word: str) -> Any:
    """A word of the SDK as a wire enum's value.

    Raises:
        InvalidRequestError: The enum does not have it.
    """
    number = dict(enum.items()).get(f"{prefix}{str(word).upper()}")
    if not number:
        words = [name.removeprefix(prefix).lower() for name, value in enum.items() if value]
        raise invalid(field, word, f"one of {', '.join(words)}")
    return number


def seconds(time: Timestamp | Duration) -> float:
    """A message as seconds."""
    return time.seconds + time.nanos / _NANO


def optional_seconds(message: Any, field: str) -> float | None:
    """A field of a message as seconds. None: it is not set."""
    return seconds(getattr(message, field)) if message.HasField(field) else None


def timestamp(field: str, time: float | None) -> Timestamp | None:
    """Unix seconds as a message."""
    if time is None:
        return None
    message = Timestamp()
    set_timestamp(message, field, time)
    return message


def set_timestamp(message: Timestamp, field: str, time: float | None) -> None:
    """Set a field of a message to Unix seconds, if there are any."""
    if time is not None:
        message.seconds, message.nanos = _parts(field, time)


def duration(field: str, value: float | None) -> Duration | None:
    """Seconds as a message."""
    if value is None:
        return None
    seconds, nanos = _parts(field, value)
    return Duration(seconds=seconds, nanos=nanos)


def rollout_to_proto(
    input: Any,
    *,
    mode: RolloutMode | None,
    resources_id: str | None,
    config: RolloutConfig | None,
    metadata: Mapping[str, Any] | None,
    labels: Mapping[str, str] | None,
    priority: int,
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
        priority=priority,
        run_id=run_id or "",
        queue=queue or "",
    )


def mode_to_proto(mode: RolloutMode | None) -> "rollout_pb2.RolloutMode.ValueType":
    """A mode as the wire has it."""
    if mode is None:
        return rollout_pb2.RolloutMode.ROLLOUT_MODE_UNSPECIFIED
    return cast("rollout_pb2.RolloutMode.ValueType", enum_value("mode", rollout_pb2.RolloutMode, "ROLLOUT_MODE_", mode))


def config_to_proto(config: RolloutConfig) -> rollout_pb2.RolloutConfig:
    """A config as the wire has it."""
    return rollout_pb2.RolloutConfig(
        timeout=duration("config.timeout_seconds", config.timeout_seconds),
        unresponsive_timeout=duration("config.unresponsive_seconds", config.unresponsive_seconds),
        max_attempts=config.max_attempts,
        retry_condition=[attempt_status_to_proto(status) for status in config.retry_condition],
        max_redeliveries=config.max_redeliveries,
        retry_policies=[_policy_to_proto(policy) for policy in config.retry_policies],
    )


def attempt_status_to_proto(status: AttemptStatus) -> "attempt_pb2.AttemptStatus.ValueType":
    """A status as the wire has it."""
    found = enum_value("status", attempt_pb2.AttemptStatus, "ATTEMPT_STATUS_", status)
    return cast("attempt_pb2.AttemptStatus.ValueType", found)


def rollout_status_to_proto(status: RolloutStatus) -> "rollout_pb2.RolloutStatus.ValueType":
    """A status as the wire has it."""
    found = enum_value("status", rollout_pb2.RolloutStatus, "ROLLOUT_STATUS_", status)
    return cast("rollout_pb2.RolloutStatus.ValueType", found)


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
        end_time=optional_seconds(message, "end_time"),
        status=attempt_status_from_proto(message.status),
        worker_id=message.worker_id or None,
        last_heartbeat_time=optional_seconds(message, "last_heartbeat_time"),
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
        parent_resources_id=message.parent_resources_id or None,
        parent_version=message.parent_version or None,
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
        end_time=optional_seconds(message, "end_time"),
        revision=message.revision,
    )


def run_status_to_proto(status: RunStatus) -> "run_pb2.RunStatus.ValueType":
    """A status as the wire has it."""
    return cast("run_pb2.RunStatus.ValueType", enum_value("status", run_pb2.RunStatus, "RUN_STATUS_", status))


def worker_status_to_proto(status: WorkerStatus) -> "worker_pb2.WorkerStatus.ValueType":
    """A status as the wire has it."""
    found = enum_value("status", worker_pb2.WorkerStatus, "WORKER_STATUS_", status)
    return cast("worker_pb2.WorkerStatus.ValueType", found)


def worker_from_proto(message: worker_pb2.Worker) -> Worker:
    """A worker."""
    return Worker(
        worker_id=message.worker_id,
        status=cast(WorkerStatus, enum_name(worker_pb2.WorkerStatus, "WORKER_STATUS_", message.status)),
        heartbeat_stats=from_json(message.heartbeat_stats_json),
        last_heartbeat_time=optional_seconds(message, "last_heartbeat_time"),
        last_dequeue_time=optional_seconds(message, "last_dequeue_time"),
        last_busy_time=optional_seconds(message, "last_busy_time"),
        last_idle_time=optional_seconds(message, "last_idle_time"),
        current_rollout_id=message.current_rollout_id or None,
        current_attempt_id=message.current_attempt_id or None,
        queue=message.queue or None,
    )


def change_from_proto(message: pb.WatchResponse.Change) -> Change:
    """Something that changed."""
    match message.WhichOneof("object"):
        case "rollout":
            changed: Any = rollout_from_proto(message.rollout)
        case "resources":
            changed = resources_from_proto(message.resources)
        case "run":
            changed = run_from_proto(message.run)
        case "worker":
            changed = worker_from_proto(message.worker)
        case _:
            changed = Deleted(id=message.deleted.rollout_id or message.deleted.worker_id)
    return Change(revision=message.revision, object=changed)


def statistics_from_proto(name: str, message: pb.GetStatisticsResponse) -> LightningStoreStatistics:
    """What a store holds."""
    statuses = {
        cast(RolloutStatus, enum_name(rollout_pb2.RolloutStatus, "ROLLOUT_STATUS_", entry.status)): entry.count
        for entry in message.rollouts
    }
    waiting = [entry for entry in message.queues if entry.HasField("oldest_age")]
    return {
        "name": name,
        "total_rollouts": sum(statuses.values()),
        "total_attempts": message.attempt_count,
        "total_spans": message.span_count,
        "total_resources": message.resources_count,
        "total_workers": message.worker_count,
        "total_runs": message.run_count,
        "uptime": seconds(message.uptime),
        "rollouts_by_status": statuses,
        "queued": {entry.queue: entry.queued_count for entry in message.queues},
        "oldest_queued_seconds": {entry.queue: seconds(entry.oldest_age) for entry in waiting},
        "live_attempts": {entry.worker_id: entry.attempt_count for entry in message.leases},
        "rates": {
            "created": message.rates.rollouts_created,
            "started": message.rates.attempts_started,
            "ended": message.rates.rollouts_ended,
            "spans": message.rates.spans_stored,
        },
        "revision": message.revision,
        "database_bytes": message.database_bytes,
    }


def _rollout_fields(message: rollout_pb2.Rollout) -> dict[str, Any]:
    mode = enum_name(rollout_pb2.RolloutMode, "ROLLOUT_MODE_", message.mode)
    return {
        "rollout_id": message.rollout_id,
        "input": from_json(message.input_json),
        "start_time": seconds(message.create_time),
        "end_time": optional_seconds(message, "end_time"),
        "mode": None if mode == "unspecified" else mode,
        "resources_id": message.resources_id or None,
        "resources_version": message.resources_version or None,
        "status": enum_name(rollout_pb2.RolloutStatus, "ROLLOUT_STATUS_", message.status),
        "config": _config_from_proto(message.config),
        "metadata": from_json(message.metadata_json),
        "labels": dict(message.labels),
        "queue": message.queue,
        "priority": message.priority,
        "run_id": message.run_id or None,
        "available_time": optional_seconds(message, "available_time"),
    }


def _config_from_proto(message: rollout_pb2.RolloutConfig) -> RolloutConfig:
    return RolloutConfig(
        timeout_seconds=optional_seconds(message, "timeout"),
        unresponsive_seconds=optional_seconds(message, "unresponsive_timeout"),
        max_attempts=message.max_attempts or 1,
        retry_condition=[attempt_status_from_proto(status) for status in message.retry_condition if _is_status(status)],
        max_redeliveries=message.max_redeliveries,
        retry_policies=[_policy_from_proto(policy) for policy in message.retry_policies if _is_kind(policy.kind)],
    )


def _policy_to_proto(policy: RetryPolicy) -> rollout_pb2.RetryPolicy:
    return rollout_pb2.RetryPolicy(
        kind=attempt_pb2.FailureKind.Value(f"FAILURE_KIND_{policy.kind.upper()}"),
        max_retries=policy.max_retries,
        initial_backoff=duration("initial_backoff_seconds", policy.initial_backoff_seconds or None),
        backoff_multiplier=policy.backoff_multiplier,
        max_backoff=duration("max_backoff_seconds", policy.max_backoff_seconds),
    )


# A newer store's kinds and statuses are its own business: what is retried, it decides.
def _is_kind(kind: int) -> bool:
    return kind in attempt_pb2.FailureKind.values()


def _is_status(status: int) -> bool:
    return status in attempt_pb2.AttemptStatus.values()


def _policy_from_proto(message: rollout_pb2.RetryPolicy) -> RetryPolicy:
    absent = RetryPolicy(kind=cast(Any, enum_name(attempt_pb2.FailureKind, "FAILURE_KIND_", message.kind)))
    return RetryPolicy(
        kind=absent.kind,
        max_retries=message.max_retries if message.HasField("max_retries") else None,
        initial_backoff_seconds=optional_seconds(message, "initial_backoff") or absent.initial_backoff_seconds,
        backoff_multiplier=message.backoff_multiplier or absent.backoff_multiplier,
        max_backoff_seconds=optional_seconds(message, "max_backoff") or absent.max_backoff_seconds,
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


def _parts(field: str, value: float) -> tuple[int, int]:
    if not (math.isfinite(value) and abs(value) <= _LONGEST):
        raise invalid(field, value, "a finite number of seconds")
    whole = math.floor(value)
    carried, nanos = divmod(round((value - whole) * _NANO), _NANO)
    return whole + carried, nanos


def _shortened(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else text[:limit] + "..."
