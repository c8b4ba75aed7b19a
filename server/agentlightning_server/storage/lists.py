"""The lists: what each can be sorted and filtered by, as fragments of SQL. `pages` composes them.

What is absent has a rank all the same: a time comes last, a number and a text first.
"""

import math
import sys

from agentlightning.v1.attempt_pb2 import Attempt
from agentlightning.v1.resources_pb2 import Resources
from agentlightning.v1.rollout_pb2 import Rollout
from agentlightning.v1.run_pb2 import Run
from agentlightning.v1.span_pb2 import Span
from agentlightning.v1.store_service_pb2 import (
    FilterLogic,
    ListAttemptsRequest,
    ListResourcesRequest,
    ListRolloutsRequest,
    ListRunsRequest,
    ListSpansRequest,
    ListWorkersRequest,
)
from agentlightning.v1.worker_pb2 import Worker

from agentlightning_server.storage.pages import Listing, Page, Query
from agentlightning_server.storage.rows import (
    attempt_message,
    labels_json,
    rollout_status,
    rollout_with_attempt_message,
    worker_message,
    worker_status,
)
from agentlightning_server.storage.transaction import Reading

_OR = FilterLogic.FILTER_LOGIC_OR
_NEVER = 1 << 62
_LEAST = -sys.float_info.max
_WALKED = ("end_time", "final_reward", "rollout_id", "revision")
"""Orders of rollouts with an index of their own: most have ended, so walking it meets the statuses asked for soon."""
_HAS_LABELS = "json_patch(labels_json, ?) = json(labels_json)"
"""Laying the labels asked for over those that are there changes nothing."""
_LAST_OF_ID = "revision = (SELECT revision FROM resources WHERE resources_id = ? ORDER BY version DESC LIMIT 1)"


def _columns(*names: str) -> dict[str, str]:
    """Columns that are never null, text among them: it is empty instead."""
    return {name: name for name in names}


def _times(*names: str) -> dict[str, str]:
    """Columns of moments that may be still to come."""
    return {name: f"coalesce({name}, {_NEVER})" for name in names}


_ROLLOUTS = Listing(
    table="rollouts",
    orders={
        **_columns("create_time", "rollout_id", "status", "resources_id", "priority", "revision"),
        "end_time": "end_order",
        "final_reward": "reward_order",
        "mode": "CASE mode WHEN 1 THEN 'train' WHEN 2 THEN 'val' WHEN 3 THEN 'test' ELSE '' END",
    },
    tie="id",
    message=rollout_with_attempt_message,
    source="rollouts_with_attempt",
)
_ATTEMPTS = Listing(
    table="attempts",
    orders={
        **_columns("sequence_id", "attempt_id", "status", "worker_id"),
        **_times("start_time", "end_time", "last_heartbeat_time"),
    },
    tie="sequence_id",
    message=attempt_message,
)
_SPANS = Listing(
    table="spans",
    orders={
        **_columns("sequence_id", "attempt_id", "trace_id", "span_id", "parent_span_id", "name"),
        **_times("start_time", "end_time"),
    },
    tie="id",
    message=lambda row: Span.FromString(row["span"]),
    columns="span",
)
_RESOURCES = Listing(
    table="resources",
    orders=_columns("revision", "resources_id", "version", "create_time", "update_time"),
    tie="revision",
    message=lambda row: Resources.FromString(row["resources"]),
    columns="resources",
)
_RUNS = Listing(
    table="runs", orders=_columns("id"), tie="id", message=lambda row: Run.FromString(row["run"]), columns="run"
)
_WORKERS = Listing(
    table="workers",
    orders={
        **_columns("worker_id", "status", "current_rollout_id", "current_attempt_id"),
        **_times("last_heartbeat_time", "last_dequeue_time", "last_busy_time", "last_idle_time"),
    },
    tie="worker_id",
    message=worker_message,
)


def rollouts(tx: Reading, request: ListRolloutsRequest) -> Page[Rollout]:
    """A page of rollouts."""
    query = Query(_ROLLOUTS, request.order_by, any_of=request.filter_logic == _OR)
    if request.rollout_ids:
        query.filter_in("rollout_id", request.rollout_ids, indexed=True)
    if request.run_id:
        query.require("run_id = ?", request.run_id, indexed=True)
    if request.queue:
        query.require("queue = ?", request.queue, indexed=True)
    if request.statuses:
        _filter_statuses(query, request)
    if request.rollout_id_contains:
        query.filter_containing("rollout_id", request.rollout_id_contains)
    if request.mode:
        query.require("mode = ?", request.mode)
    if request.labels:
        query.require(_HAS_LABELS, labels_json(request.labels))
    if request.HasField("min_final_reward") or request.HasField("max_final_reward"):
        _require_reward(query, request)
    return query.page(tx, request.page_size, request.page_token, request.skip, request.count_total)


def attempts(tx: Reading, request: ListAttemptsRequest) -> Page[Attempt]:
    """A page of a rollout's attempts."""
    query = Query(_ATTEMPTS, request.order_by)
    query.require("rollout_id = ?", request.rollout_id, indexed=True)
    return query.page(tx, request.page_size, request.page_token, request.skip, request.count_total)


def spans(tx: Reading, request: ListSpansRequest) -> Page[Span]:
    """A page of a rollout's spans. Those of a deleted one, which go after it a few at a time, are nobody's."""
    if tx.one("deletion", rollout_id=request.rollout_id) is not None:
        return Page([], "", 0)
    query = Query(_SPANS, request.order_by, any_of=request.filter_logic == _OR)
    query.require("rollout_id = ?", request.rollout_id, indexed=True)
    if request.attempt_id == "latest":
        query.require("attempt_id = (SELECT latest_attempt_id FROM rollouts WHERE rollout_id = ?)", request.rollout_id)
    elif request.attempt_id:
        query.require("attempt_id = ?", request.attempt_id)
    for column in ("name", "trace_id", "span_id", "parent_span_id"):
        if text := getattr(request, column):
            query.filter(f"{column} = ?", text)
        if text := getattr(request, f"{column}_contains"):
            query.filter_containing(column, text)
    return query.page(tx, request.page_size, request.page_token, request.skip, request.count_total)


def resources(tx: Reading, request: ListResourcesRequest) -> Page[Resources]:
    """A page of resources."""
    query = Query(_RESOURCES, request.order_by)
    if request.resources_id:
        condition = "resources_id = ?" if request.all_versions else _LAST_OF_ID
        query.require(condition, request.resources_id, indexed=True)
    if request.run_id:
        condition = "run_id = ?" if request.all_versions else "run_id = ? AND is_last"
        query.require(condition, request.run_id, indexed=True)
    elif not request.all_versions:
        query.require("is_last", indexed=True)
    if request.resources_id_contains:
        query.filter_containing("resources_id", request.resources_id_contains)
    return query.page(tx, request.page_size, request.page_token, request.skip, request.count_total)


def runs(tx: Reading, request: ListRunsRequest) -> Page[Run]:
    """A page of runs, newest first."""
    query = Query(_RUNS, "id desc")
    if request.statuses:
        query.filter_in("status", set(request.statuses))
    if request.algorithm:
        query.require("algorithm = ?", request.algorithm)
    if request.labels:
        query.require(_HAS_LABELS, labels_json(request.labels))
    return query.page(tx, request.page_size, request.page_token)


def workers(tx: Reading, request: ListWorkersRequest) -> Page[Worker]:
    """A page of workers."""
    query = Query(_WORKERS, request.order_by, any_of=request.filter_logic == _OR)
    if request.statuses:
        query.filter_in("status", {worker_status(status) for status in request.statuses})
    if request.worker_id_contains:
        query.filter_containing("worker_id", request.worker_id_contains)
    return query.page(tx, request.page_size, request.page_token, request.skip, request.count_total)


def _filter_statuses(query: Query[Rollout], request: ListRolloutsRequest) -> None:
    statuses = {rollout_status(status) for status in request.statuses}
    if query.field not in _WALKED:
        query.filter_each("status", statuses)
        return
    query.filter_in("status", statuses)
    if query.field == "end_time" and request.filter_logic != _OR and all(status.is_terminal for status in statuses):
        query.require_between(0, _NEVER - 1)  # those that have not ended may be many, and would come first


def _require_reward(query: Query[Rollout], request: ListRolloutsRequest) -> None:
    least = max(request.min_final_reward, _LEAST) if request.HasField("min_final_reward") else _LEAST
    most = request.max_final_reward if request.HasField("max_final_reward") else math.inf
    if query.field == "final_reward":
        query.require_between(least, most)
    else:
        query.require("reward_order BETWEEN ? AND ?", least, most)
