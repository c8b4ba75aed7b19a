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
from agentlightning.v1.worker_pb2 import Worker

from agentlightning_server.errors import FieldInvalidError, StoreError
from agentlightning_server.storage.rows import attempt_message, rollout_message, rollout_status, worker_message
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
    """A list being composed, sorted by non-null expressions of which the last is unique."""

    columns: str
    table: str
    sort: tuple[str, ...]
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
        """One page and the token of the next, empty when there is none. The sort values are a row's last columns."""
        size = size or DEFAULT_PAGE
        conditions, values = list(self.conditions), list(self.values)
        if token:
            places = ", ".join("?" * len(self.sort))
            conditions.append(f"({', '.join(self.sort)}) {'<' if self.descending else '>'} ({places})")
            values += _decoded(token, len(self.sort))
        direction = "DESC" if self.descending else "ASC"
        order = ", ".join(f"{expression} {direction}" for expression in self.sort)
        text = f"{self.text(', '.join((self.columns, *self.sort)), conditions)} ORDER BY {order} LIMIT ? OFFSET ?"
        rows = tx.connection.execute(text, [*values, size + 1, skip]).fetchall()
        return rows[:size], self.token(rows[size - 1]) if len(rows) > size else ""

    def token(self, row: sqlite3.Row) -> str:
        """Where a page that ends with this row is gone on with."""
        return base64.urlsafe_b64encode(json.dumps(row[-len(self.sort) :]).encode()).decode()

    def fitting_page(self, tx: Reading, size: int, token: str) -> tuple[list[sqlite3.Row], str]:
        """A page cut short, to one row at least, where its first column would be too large for a message."""
        rows, next_token = self.page(tx, size, token)
        total = 0
        for count, row in enumerate(rows):
            total += len(row[0])
            if count and total > _MAX_PAGE_BYTES:
                return rows[:count], self.token(rows[count - 1])
        return rows, next_token


def rollouts(tx: Reading, request: ListRolloutsRequest) -> tuple[list[Rollout], str, int]:
    """A page of rollouts, the next page's token, and the total if asked."""
    order, descending = _order(request.order_by)
    query = _Query("*", "rollouts_with_attempt", (order, "id"), descending)
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
    for key, value in sorted(request.labels.items()):
        query.where("EXISTS (SELECT 1 FROM json_each(labels_json) WHERE key = ? AND value = ?)", key, value)
    rows, token = query.page(tx, request.page_size, request.page_token, request.skip)
    return [rollout_message(row) for row in rows], token, query.count(tx) if request.count_total else 0


def attempts(tx: Reading, request: ListAttemptsRequest) -> tuple[list[Attempt], str]:
    """A page of a rollout's attempts."""
    query = _Query("*", "attempts", ("sequence_id",))
    query.where("rollout_id = ?", request.rollout_id)
    rows, token = query.page(tx, request.page_size, request.page_token)
    return [attempt_message(row) for row in rows], token


def spans(tx: Reading, request: ListSpansRequest) -> tuple[list[Span], str]:
    """A page of a rollout's spans, cut short where it would be too large for a message."""
    query = _Query("span", "spans", ("sequence_id", "id"))
    query.where("rollout_id = ?", request.rollout_id)
    if request.attempt_id == "latest":
        query.where("attempt_id = (SELECT latest_attempt_id FROM rollouts WHERE rollout_id = ?)", request.rollout_id)
    elif request.attempt_id:
        query.where("attempt_id = ?", request.attempt_id)
    if request.name:
        query.where("name = ?", request.name)
    rows, token = query.fitting_page(tx, request.page_size, request.page_token)
    return [Span.FromString(row[0]) for row in rows], token


def resources(tx: Reading, request: ListResourcesRequest) -> tuple[list[Resources], str]:
    """A page of resources in the order of writing."""
    query = _Query("resources", "resources AS r", ("revision",))
    if request.resources_id:
        query.where("resources_id = ?", request.resources_id)
    else:
        query.where("version = (SELECT max(version) FROM resources WHERE resources_id = r.resources_id)")
    if request.run_id:
        query.where("run_id = ?", request.run_id)
    rows, token = query.fitting_page(tx, request.page_size, request.page_token)
    return [Resources.FromString(row[0]) for row in rows], token


def runs(tx: Reading, request: ListRunsRequest) -> tuple[list[Run], str]:
    """A page of runs, newest first."""
    query = _Query("run", "runs", ("id",), descending=True)
    if request.status != RunStatus.RUN_STATUS_UNSPECIFIED:
        query.where("status = ?", request.status)
    rows, token = query.page(tx, request.page_size, request.page_token)
    return [Run.FromString(row[0]) for row in rows], token


def workers(tx: Reading, request: ListWorkersRequest) -> tuple[list[Worker], str]:
    """A page of workers by name."""
    query = _Query("*", "workers", ("worker_id",))
    rows, token = query.page(tx, request.page_size, request.page_token)
    return [worker_message(row) for row in rows], token


def _order(order_by: str) -> tuple[str, bool]:
    name, _, direction = (order_by or "create_time").partition(" ")
    if name not in _ROLLOUT_ORDERS or direction not in ("", "asc", "desc"):
        expected = f"one of {', '.join(_ROLLOUT_ORDERS)}, then nothing or ' desc'"
        raise FieldInvalidError("order_by", order_by, expected)
    return _ROLLOUT_ORDERS[name], direction == "desc"


def _decoded(token: str, length: int) -> list[Any]:
    try:
        values = json.loads(base64.urlsafe_b64decode(token))
    except ValueError:
        values = None
    is_key = isinstance(values, list) and all(isinstance(value, int | str) for value in values)
    if not is_key or len(values) != length:
        raise StoreError(
            ErrorReason.ERROR_REASON_PAGE_TOKEN_INVALID,
            f"page_token {token[:50]!r} was not given by this list: start again without one",
            field="page_token",
        )
    return list(values)
