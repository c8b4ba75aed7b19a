"""Composes filtered, sorted, paged lists out of the fragments listed here and bound parameters: no other SQL in Python.

Pages are found by key: a token holds the last row's sort key, so a page costs what it returns, however deep it lies.
"""

import base64
import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentlightning.v1.attempt_pb2 import Attempt
from agentlightning.v1.error_reason_pb2 import ErrorReason
from agentlightning.v1.resources_pb2 import Resources
from agentlightning.v1.rollout_pb2 import Rollout, RolloutMode
from agentlightning.v1.run_pb2 import Run, RunStatus
from agentlightning.v1.span_pb2 import Span
from agentlightning.v1.store_service_pb2 import (
    ListAttemptsRequest,
    ListResourcesRequest,
    ListRolloutsRequest,
    ListRunsRequest,
    ListSpansRequest,
    ListWorkersRequest,
)
from agentlightning.v1.worker_pb2 import Worker, WorkerStatus

from agentlightning_server.errors import FieldInvalidError, StoreError
from agentlightning_server.storage.rows import attempt_message, rollout_message, rollout_status
from agentlightning_server.storage.transaction import Reading

DEFAULT_PAGE = 100
_MAX_PAGE_BYTES = 2 << 20
_LAST = 1 << 62

_ROLLOUT_ORDERS = {
    "create_time": "create_time",
    "end_time": f"coalesce(end_time, {_LAST})",  # what has not ended will end last
    "status": "status",
    "mode": "CASE mode WHEN 1 THEN 'train' WHEN 2 THEN 'val' WHEN 3 THEN 'test' ELSE '' END",
    "rollout_id": "rollout_id",
}


@dataclass(slots=True)
class _Query:
    """A list being composed. `order` is a non-null expression; `key` is unique and settles ties."""

    columns: str
    table: str
    key: str
    order: str = "0"
    descending: bool = False
    conditions: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def where(self, condition: str, *values: Any) -> None:
        self.conditions.append(condition)
        self.values += values

    def where_in(self, column: str, values: Sequence[Any]) -> None:
        self.where(f"{column} IN ({', '.join('?' * len(values))})", *values)

    def text(self, columns: str, conditions: Iterable[str]) -> str:
        return f"SELECT {columns} FROM {self.table} WHERE {' AND '.join(conditions) or 'TRUE'}"

    def count(self, tx: Reading) -> int:
        return int(tx.connection.execute(self.text("count(*)", self.conditions), self.values).fetchone()[0])

    def page(self, tx: Reading, size: int, token: str, skip: int = 0) -> tuple[list[sqlite3.Row], str]:
        """One page and the token of the next, empty when there is none."""
        size = size or DEFAULT_PAGE
        conditions, values = list(self.conditions), list(self.values)
        if token:
            conditions.append(f"({self.order}, {self.key}) {'<' if self.descending else '>'} (?, ?)")
            values += _decoded(token)
        direction = "DESC" if self.descending else "ASC"
        columns = f"{self.columns}, {self.order} AS page_order, {self.key} AS page_key"
        ordered = f"ORDER BY {self.order} {direction}, {self.key} {direction} LIMIT ? OFFSET ?"
        text = f"{self.text(columns, conditions)} {ordered}"
        rows = tx.connection.execute(text, [*values, size + 1, skip]).fetchall()
        return rows[:size], _encoded(rows[size - 1]) if len(rows) > size else ""


def rollouts(tx: Reading, request: ListRolloutsRequest) -> tuple[list[Rollout], str, int]:
    """A page of rollouts, the next page's token, and the total if asked."""
    order, descending = _order(request.order_by)
    query = _Query("*", "rollouts_with_attempt", "id", order, descending)
    if request.statuses:
        query.where_in("status", [rollout_status(status) for status in request.statuses])
    if request.rollout_ids:
        query.where("rollout_id IN (SELECT value FROM json_each(?))", json.dumps(list(request.rollout_ids)))
    if request.run_id:
        query.where("run_id = ?", request.run_id)
    if request.queue:
        query.where("queue = ?", request.queue)
    if request.mode != RolloutMode.ROLLOUT_MODE_UNSPECIFIED:
        query.where("mode = ?", request.mode)
    rows, token = query.page(tx, request.page_size, request.page_token, request.skip)
    return [rollout_message(row) for row in rows], token, query.count(tx) if request.count_total else 0


def attempts(tx: Reading, request: ListAttemptsRequest) -> tuple[list[Attempt], str]:
    """A page of a rollout's attempts."""
    query = _Query("*", "attempts", "sequence_id")
    query.where("rollout_id = ?", request.rollout_id)
    rows, token = query.page(tx, request.page_size, request.page_token)
    return [attempt_message(row) for row in rows], token


def spans(tx: Reading, request: ListSpansRequest) -> tuple[list[Span], str]:
    """A page of a rollout's spans, cut short where it would be too large for a message."""
    query = _Query("span", "spans", "id", "sequence_id")
    query.where("rollout_id = ?", request.rollout_id)
    if request.attempt_id == "latest":
        query.where("attempt_id = (SELECT latest_attempt_id FROM rollouts WHERE rollout_id = ?)", request.rollout_id)
    elif request.attempt_id:
        query.where("attempt_id = ?", request.attempt_id)
    if request.name:
        query.where("name = ?", request.name)
    rows, token = query.page(tx, request.page_size, request.page_token)
    rows, token = _fitting(rows, token)
    return [Span.FromString(row[0]) for row in rows], token


def resources(tx: Reading, request: ListResourcesRequest) -> tuple[list[Resources], str]:
    """A page of resources in the order of writing."""
    query = _Query("resources", "resources AS r", "revision")
    if request.resources_id:
        query.where("resources_id = ?", request.resources_id)
    else:
        query.where("version = (SELECT max(version) FROM resources WHERE resources_id = r.resources_id)")
    if request.run_id:
        query.where("run_id = ?", request.run_id)
    rows, token = _fitting(*query.page(tx, request.page_size, request.page_token))
    return [Resources.FromString(row[0]) for row in rows], token


def runs(tx: Reading, request: ListRunsRequest) -> tuple[list[Run], str]:
    """A page of runs, newest first."""
    query = _Query("run", "runs", "id", descending=True)
    if request.status != RunStatus.RUN_STATUS_UNSPECIFIED:
        query.where("status = ?", request.status)
    rows, token = query.page(tx, request.page_size, request.page_token)
    return [Run.FromString(row[0]) for row in rows], token


def workers(tx: Reading, request: ListWorkersRequest) -> tuple[list[Worker], str]:
    """A page of workers by name."""
    query = _Query("worker", "workers", "worker_id")
    if request.status != WorkerStatus.WORKER_STATUS_UNSPECIFIED:
        query.where("status = ?", request.status)
    rows, token = query.page(tx, request.page_size, request.page_token)
    return [Worker.FromString(row[0]) for row in rows], token


def _order(order_by: str) -> tuple[str, bool]:
    name, _, direction = (order_by or "create_time").partition(" ")
    if name not in _ROLLOUT_ORDERS or direction not in ("", "asc", "desc"):
        expected = f"one of {', '.join(_ROLLOUT_ORDERS)}, then nothing or ' desc'"
        raise FieldInvalidError("order_by", order_by, expected)
    return _ROLLOUT_ORDERS[name], direction == "desc"


def _fitting(rows: list[sqlite3.Row], token: str) -> tuple[list[sqlite3.Row], str]:
    """As many of the rows as one message takes, at least one."""
    size = 0
    for count, row in enumerate(rows):
        size += len(row[0])
        if count and size > _MAX_PAGE_BYTES:
            return rows[:count], _encoded(rows[count - 1])
    return rows, token


def _encoded(row: sqlite3.Row) -> str:
    return base64.urlsafe_b64encode(json.dumps([row["page_order"], row["page_key"]]).encode()).decode()


def _decoded(token: str) -> list[Any]:
    try:
        order, key = json.loads(base64.urlsafe_b64decode(token))
    except (ValueError, TypeError) as error:
        raise StoreError(
            ErrorReason.ERROR_REASON_PAGE_TOKEN_INVALID,
            f"page_token {token[:50]!r} was not given by this list: start again without one",
            field="page_token",
        ) from error
    return [order, key]
