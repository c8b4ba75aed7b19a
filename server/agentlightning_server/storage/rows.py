"""Rows to messages and to what the rules look at, and back. Knows no rule and no query."""

import json
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import Any

from agentlightning.v1.attempt_pb2 import Attempt, Failure
from agentlightning.v1.attempt_pb2 import AttemptStatus as ProtoAttemptStatus
from agentlightning.v1.attempt_pb2 import FailureKind as ProtoFailureKind
from agentlightning.v1.rollout_pb2 import RetryPolicy as ProtoRetryPolicy
from agentlightning.v1.rollout_pb2 import Rollout, RolloutConfig
from agentlightning.v1.rollout_pb2 import RolloutStatus as ProtoRolloutStatus
from agentlightning.v1.worker_pb2 import Worker, WorkerStatus
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from agentlightning_server.lifecycle.states import (
    AttemptStatus,
    FailureKind,
    RetryPolicy,
    RetryRules,
    RolloutStatus,
    Situation,
)
from agentlightning_server.storage.transaction import Row

DEFAULT_MAX_REDELIVERIES = 3
DEFAULT_BACKOFF_MULTIPLIER = 2.0
DEFAULT_MAX_BACKOFF = 300_000_000  # microseconds
_NO_LABELS = "{}"
_MICRO = 1_000_000


def timestamp(micros: int) -> Timestamp:
    """Microseconds since 1970 as a message."""
    return Timestamp(seconds=micros // _MICRO, nanos=micros % _MICRO * 1000)


def micros(time: Timestamp | Duration) -> int:
    """A message as microseconds."""
    return time.seconds * _MICRO + time.nanos // 1000


def duration(micros: int) -> Duration:
    """Microseconds as a message."""
    return Duration(seconds=micros // _MICRO, nanos=micros % _MICRO * 1000)


def rollout_status(value: "ProtoRolloutStatus.ValueType") -> RolloutStatus:
    """The rules' word for the wire's."""
    return RolloutStatus(ProtoRolloutStatus.Name(value).removeprefix("ROLLOUT_STATUS_").lower())


def attempt_status(value: "ProtoAttemptStatus.ValueType") -> AttemptStatus:
    """The rules' word for the wire's."""
    return AttemptStatus(ProtoAttemptStatus.Name(value).removeprefix("ATTEMPT_STATUS_").lower())


def worker_status(value: "WorkerStatus.ValueType") -> str:
    """The column's word for the wire's."""
    return WorkerStatus.Name(value).removeprefix("WORKER_STATUS_").lower()


def failure_kind(value: "ProtoFailureKind.ValueType") -> FailureKind:
    """The rules' word for the wire's; an unsaid kind is the agent's."""
    name = ProtoFailureKind.Name(value).removeprefix("FAILURE_KIND_").lower()
    return FailureKind.AGENT if name == "unspecified" else FailureKind(name)


@cache
def proto_attempt_status(status: str) -> "ProtoAttemptStatus.ValueType":
    """The wire's word for the rules'."""
    return ProtoAttemptStatus.Value(f"ATTEMPT_STATUS_{status.upper()}")


@cache
def proto_rollout_status(status: str) -> "ProtoRolloutStatus.ValueType":
    """The wire's word for the rules'."""
    return ProtoRolloutStatus.Value(f"ROLLOUT_STATUS_{status.upper()}")


def proto_failure_kind(kind: FailureKind) -> "ProtoFailureKind.ValueType":
    """The wire's word for the rules'."""
    return ProtoFailureKind.Value(f"FAILURE_KIND_{kind.upper()}")


def labels_json(labels: Mapping[str, str]) -> str:
    """Labels as a column."""
    return json.dumps(dict(labels), sort_keys=True)


def input_columns(rollout: Rollout) -> dict[str, Any]:
    """What a rollout's owner decides, as columns."""
    config = rollout.config
    return {
        "mode": rollout.mode,
        "input_json": rollout.input_json,
        "resources_id": rollout.resources_id,
        "resources_version": rollout.resources_version,
        "timeout": micros(config.timeout) if config.HasField("timeout") else None,
        "unresponsive_timeout": micros(config.unresponsive_timeout)
        if config.HasField("unresponsive_timeout")
        else None,
        "max_attempts": config.max_attempts or 1,
        "retry_condition": " ".join(attempt_status(status) for status in config.retry_condition),
        "max_redeliveries": config.max_redeliveries
        if config.HasField("max_redeliveries")
        else DEFAULT_MAX_REDELIVERIES,
        "retry_policies": RolloutConfig(retry_policies=config.retry_policies).SerializeToString() or None,
        "metadata_json": rollout.metadata_json,
        "labels_json": labels_json(rollout.labels),
    }


def rollout_with_attempt_message(row: Row) -> Rollout:
    """A row of `rollouts_with_attempt` as a message."""
    return rollout_message(row, None if row["a_attempt_id"] is None else attempt_message(row, prefix="a_"))


def rollout_message(row: Row, latest_attempt: Attempt | None) -> Rollout:
    """A row of `rollouts` as a message."""
    return Rollout(
        rollout_id=row["rollout_id"],
        run_id=row["run_id"],
        queue=row["queue"],
        priority=row["priority"],
        status=proto_rollout_status(row["status"]),
        mode=row["mode"],
        input_json=row["input_json"],
        resources_id=row["resources_id"],
        resources_version=row["resources_version"],
        config=_config(row),
        metadata_json=row["metadata_json"],
        labels=None if row["labels_json"] == _NO_LABELS else json.loads(row["labels_json"]),
        create_time=timestamp(row["create_time"]),
        end_time=None if row["end_time"] is None else timestamp(row["end_time"]),
        attempt_count=row["attempt_count"],
        redelivery_count=row["redelivery_count"],
        revision=row["revision"],
        available_time=None if row["available_time"] is None else timestamp(row["available_time"]),
        latest_attempt=latest_attempt,
    )


def attempt_message(row: Row, prefix: str = "") -> Attempt:
    """A row of `attempts` as a message."""

    def at(column: str) -> Timestamp | None:
        return None if row[prefix + column] is None else timestamp(row[prefix + column])

    return Attempt(
        rollout_id=row["rollout_id"],
        attempt_id=row[f"{prefix}attempt_id"],
        sequence_id=row[f"{prefix}sequence_id"],
        status=proto_attempt_status(row[f"{prefix}status"]),
        worker_id=row[f"{prefix}worker_id"],
        start_time=at("start_time"),
        end_time=at("end_time"),
        last_heartbeat_time=at("last_heartbeat_time"),
        lease_expire_time=at("lease_expire_time"),
        metadata_json=row[f"{prefix}metadata_json"],
        failure=None if row[f"{prefix}failure"] is None else Failure.FromString(row[f"{prefix}failure"]),
        final_reward=row[f"{prefix}final_reward"],
        lost_span_count=row[f"{prefix}lost_span_count"],
        revision=row[f"{prefix}revision"],
    )


def worker_message(row: Row) -> Worker:
    """A row of `workers` as a message."""

    def at(column: str) -> Timestamp | None:
        return None if row[column] is None else timestamp(row[column])

    return Worker(
        worker_id=row["worker_id"],
        status=WorkerStatus.Value(f"WORKER_STATUS_{row['status'].upper()}"),
        heartbeat_stats_json=row["heartbeat_stats_json"],
        last_heartbeat_time=at("last_heartbeat_time"),
        last_dequeue_time=at("last_dequeue_time"),
        last_busy_time=at("last_busy_time"),
        last_idle_time=at("last_idle_time"),
        current_rollout_id=row["current_rollout_id"],
        current_attempt_id=row["current_attempt_id"],
        revision=row["revision"],
        queue=row["queue"],
    )


def situation(rollout: Row, attempt: Row, failures: Mapping[FailureKind, int]) -> Situation:
    """What the rules look at: a row of `rollouts`, one of `attempts`, and how earlier ones failed."""
    return Situation(
        rollout=RolloutStatus(rollout["status"]),
        attempt=AttemptStatus(attempt["status"]),
        is_latest=rollout["latest_attempt_id"] == attempt["attempt_id"],
        sequence_id=attempt["sequence_id"],
        redeliveries=rollout["redelivery_count"],
        releases=rollout["release_count"],
        lost=bool(attempt["lost"]),
        failures=failures,
        retry=_retry_rules(
            rollout["max_attempts"], rollout["retry_condition"], rollout["max_redeliveries"], rollout["retry_policies"]
        ),
    )


@lru_cache(maxsize=256)
def _retry_rules(
    max_attempts: int, retry_condition: str, max_redeliveries: int, retry_policies: bytes | None
) -> RetryRules:
    return RetryRules(
        max_attempts=max_attempts,
        retry_condition=frozenset(map(AttemptStatus, retry_condition.split())),
        max_redeliveries=max_redeliveries,
        policies={failure_kind(policy.kind): _retry_policy(policy) for policy in _retry_policies(retry_policies)},
    )


def _retry_policies(stored: bytes | None) -> Iterable[ProtoRetryPolicy]:
    return () if stored is None else RolloutConfig.FromString(stored).retry_policies


def _retry_policy(policy: ProtoRetryPolicy) -> RetryPolicy:
    initial = micros(policy.initial_backoff)
    longest = micros(policy.max_backoff) if policy.HasField("max_backoff") else max(DEFAULT_MAX_BACKOFF, initial)
    return RetryPolicy(
        max_retries=policy.max_retries if policy.HasField("max_retries") else None,
        initial_backoff=initial,
        backoff_multiplier=policy.backoff_multiplier or DEFAULT_BACKOFF_MULTIPLIER,
        max_backoff=longest,
    )


_CONFIG = ("timeout", "unresponsive_timeout", "max_attempts", "retry_condition", "max_redeliveries", "retry_policies")


def _config(row: Row) -> RolloutConfig:
    return _config_of(*(row[column] for column in _CONFIG))


@lru_cache(maxsize=256)
def _config_of(
    timeout: int | None,
    unresponsive_timeout: int | None,
    max_attempts: int,
    retry_condition: str,
    max_redeliveries: int,
    retry_policies: bytes | None,
) -> RolloutConfig:
    """To be copied, not to be changed: the rollouts of a dataset have one between them."""
    return RolloutConfig(
        timeout=None if timeout is None else duration(timeout),
        unresponsive_timeout=None if unresponsive_timeout is None else duration(unresponsive_timeout),
        max_attempts=max_attempts,
        retry_condition=[proto_attempt_status(status) for status in retry_condition.split()],
        max_redeliveries=max_redeliveries,
        retry_policies=_retry_policies(retry_policies),
    )
