"""Any list in any order, a page at a time: every item once and in its place, whatever is filtered or inserted."""

import json
import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.resources_pb2 import Resources
from agentlightning.v1.run_pb2 import Run
from agentlightning.v1.span_pb2 import Span
from agentlightning_server.errors import StoreError
from agentlightning_server.storage import lists
from agentlightning_server.storage.queries import migrations
from agentlightning_server.storage.rows import proto_rollout_status
from agentlightning_server.storage.transaction import Reading
from hypothesis import given, settings
from hypothesis import strategies as st

Row = dict[str, Any]

MODES = ("", "train", "val", "test")
ENDED = ("succeeded", "failed", "cancelled")
FEW = st.integers(min_value=0, max_value=3)
WORDS = st.sampled_from(["", "a", "A", "ab", "b%"])
MOMENTS = st.none() | FEW
LABELS = st.dictionaries(st.sampled_from("kl"), st.sampled_from("xy"))


@dataclass(frozen=True)
class Kind:
    """A list and how to fill it: what is drawn of a row, and what makes the rest of it from its number."""

    table: str
    list_: Callable[[Reading, Any], Any]
    request: Callable[..., Any]
    id: str
    drawn: dict[str, st.SearchStrategy[Any]]
    rest: Callable[[int, Row], Row]
    orders: tuple[str, ...]

    def rows(self) -> st.SearchStrategy[list[Row]]:
        return st.lists(st.fixed_dictionaries(self.drawn), max_size=9)

    def made(self, drawn: Iterable[Row], first: int = 0) -> list[Row]:
        return [{**row, **self.rest(number, row)} for number, row in enumerate(drawn, start=first)]


def rollout(number: int, row: Row) -> Row:
    ended = row["status"] in ENDED
    return {
        "rollout_id": f"ro-{number * 7 % 100:02}",
        "revision": number * 11 % 101,
        "end_time": row["end_time"] or 0 if ended else None,
        "labels_json": json.dumps(row["labels_json"]),
        **{"queue_position": 0, "input_json": "1", "max_attempts": 1, "retry_condition": "", "max_redeliveries": 3},
        **{"metadata_json": "", "resources_version": 0},
    }


def span(number: int, row: Row) -> Row:
    span_id = f"{number * 7 % 100:016}"
    return {"rollout_id": "ro", "span_id": span_id, "span": Span(span_id=span_id).SerializeToString()}


def versions(number: int, row: Row) -> Row:
    return {"revision": number, "version": number, "resources": Resources(revision=number).SerializeToString()}


def run(number: int, row: Row) -> Row:
    run_id = f"run-{number}"
    return {"run_id": run_id, "revision": number, "run": Run(run_id=run_id).SerializeToString()}


ROLLOUTS = Kind(
    "rollouts",
    lists.rollouts,
    pb.ListRolloutsRequest,
    "rollout_id",
    {
        "status": st.sampled_from(["queuing", "running", *ENDED]),
        "mode": FEW,
        "run_id": st.sampled_from(["", "run"]),
        "queue": st.sampled_from(["default", "other"]),
        "resources_id": WORDS,
        "priority": FEW,
        "create_time": FEW,
        "end_time": MOMENTS,
        "final_reward": st.none() | st.sampled_from([-1.5, 0.0, 0.5, 1.0]),
        "labels_json": LABELS,
    },
    rollout,
    (
        *("create_time", "end_time", "status", "mode", "rollout_id", "resources_id", "priority", "final_reward"),
        "revision",
    ),
)
ATTEMPTS = Kind(
    "attempts",
    lists.attempts,
    lambda **fields: pb.ListAttemptsRequest(rollout_id="ro", **fields),
    "attempt_id",
    {
        "status": st.sampled_from(["succeeded", "timeout"]),
        "worker_id": WORDS,
        "start_time": FEW,
        "end_time": FEW,
        "last_heartbeat_time": MOMENTS,
    },
    lambda number, _: {
        **{"attempt_id": f"at-{number * 7 % 100:02}", "rollout_id": "ro", "sequence_id": number, "revision": number}
    },
    ("sequence_id", "attempt_id", "start_time", "end_time", "last_heartbeat_time", "status", "worker_id"),
)
SPANS = Kind(
    "spans",
    lists.spans,
    lambda **fields: pb.ListSpansRequest(rollout_id="ro", **fields),
    "span_id",
    {
        "attempt_id": WORDS,
        "sequence_id": FEW,
        "trace_id": WORDS,
        "parent_span_id": WORDS,
        "name": WORDS,
        "start_time": MOMENTS,
        "end_time": MOMENTS,
    },
    span,
    ("sequence_id", "attempt_id", "trace_id", "span_id", "parent_span_id", "name", "start_time", "end_time"),
)
RESOURCES = Kind(
    "resources",
    lists.resources,
    lambda **fields: pb.ListResourcesRequest(all_versions=True, **fields),
    "revision",
    {"resources_id": WORDS, "run_id": WORDS, "create_time": FEW, "update_time": FEW},
    versions,
    ("revision", "resources_id", "version", "create_time", "update_time"),
)
RUNS = Kind(
    "runs",
    lists.runs,
    pb.ListRunsRequest,
    "run_id",
    {"queue": WORDS, "algorithm": WORDS, "status": FEW, "labels_json": st.just("{}")},
    run,
    (),
)
WORKERS = Kind(
    "workers",
    lists.workers,
    pb.ListWorkersRequest,
    "worker_id",
    {
        "status": st.sampled_from(["idle", "busy", "unknown"]),
        "current_rollout_id": WORDS,
        "current_attempt_id": WORDS,
        **dict.fromkeys(("last_heartbeat_time", "last_dequeue_time", "last_busy_time", "last_idle_time"), MOMENTS),
    },
    lambda number, _: {"worker_id": f"w-{number:02}", "revision": number},
    (
        *("worker_id", "status", "last_heartbeat_time", "last_dequeue_time", "last_busy_time", "last_idle_time"),
        *("current_rollout_id", "current_attempt_id"),
    ),
)
SORTED = [ROLLOUTS, ATTEMPTS, SPANS, RESOURCES, WORKERS]


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(tmp_path_factory.mktemp("lists") / "store.db", isolation_level=None)
    connection.row_factory = sqlite3.Row
    for script in migrations():
        connection.executescript(script)
    yield connection
    connection.close()


def insert(connection: sqlite3.Connection, kind: Kind, rows: list[Row]) -> None:
    for row in rows:
        marks = ", ".join(f":{column}" for column in row)
        connection.execute(f"INSERT INTO {kind.table} ({', '.join(row)}) VALUES ({marks})", row)


@contextmanager
def holding(connection: sqlite3.Connection, kind: Kind, rows: list[Row]) -> Iterator[None]:
    """The database with these rows, and without them afterwards."""
    connection.execute("BEGIN")
    try:
        insert(connection, kind, rows)
        yield
    finally:
        connection.execute("ROLLBACK")


def ids(kind: Kind, items: Any) -> list[Any]:
    return [getattr(item, kind.id) for item in items]


def rest_of(connection: sqlite3.Connection, kind: Kind, request: Any, token: str = "") -> list[Any]:
    """The ids on every page from a token on."""
    found: list[Any] = []
    request.page_token = token
    while True:
        page = kind.list_(Reading(connection, 0), request)
        found += ids(kind, page.items)
        assert len(page.items) <= request.page_size
        if not page.next_token:
            return found
        assert page.items
        request.page_token = page.next_token


def rank(row: Row, field: str) -> Any:
    """How the protocol sorts: what has no time last, no number first, enums by their word."""
    value = row[field]
    if field == "mode":
        return MODES[value]
    if value is None:
        return math.inf if field.endswith("_time") else -math.inf
    return value


def in_order(kind: Kind, rows: list[Row], field: str, descending: bool) -> list[Any]:
    """Equals in the order of insertion, which the order of the other way is the reverse of."""
    ordered = sorted(rows, key=lambda row: rank(row, field))
    return [row[kind.id] for row in (reversed(ordered) if descending else ordered)]


@pytest.mark.parametrize("kind", SORTED, ids=lambda kind: kind.table)
@settings(max_examples=60)
@given(data=st.data())
def test_paging_gives_every_item_once_and_in_order(
    connection: sqlite3.Connection, kind: Kind, data: st.DataObject
) -> None:
    rows = kind.made(data.draw(kind.rows()))
    field, descending = data.draw(st.sampled_from(kind.orders)), data.draw(st.booleans())
    request = kind.request(order_by=field + " desc" * descending, page_size=data.draw(st.integers(1, 4)))
    with holding(connection, kind, rows):
        found = rest_of(connection, kind, request)
    assert found == in_order(kind, rows, field, descending)


@pytest.mark.parametrize("kind", SORTED, ids=lambda kind: kind.table)
@settings(max_examples=30)
@given(data=st.data())
def test_what_is_inserted_between_pages_neither_repeats_nor_hides_what_was_there(
    connection: sqlite3.Connection, kind: Kind, data: st.DataObject
) -> None:
    before, after = kind.made(data.draw(kind.rows())), kind.made(data.draw(kind.rows()), first=50)
    field, descending = data.draw(st.sampled_from(kind.orders)), data.draw(st.booleans())
    request = kind.request(order_by=field + " desc" * descending, page_size=2)
    with holding(connection, kind, before):
        first = kind.list_(Reading(connection, 0), request)
        insert(connection, kind, after)
        rest = rest_of(connection, kind, request, first.next_token) if first.next_token else []
    found = ids(kind, first.items) + rest
    old = {row[kind.id] for row in before}
    assert [id_ for id_ in found if id_ in old] == in_order(kind, before, field, descending)
    assert len(found) == len(set(found))


@settings(max_examples=20)
@given(drawn=RUNS.rows(), size=st.integers(1, 4))
def test_runs_come_newest_first(connection: sqlite3.Connection, drawn: list[Row], size: int) -> None:
    rows = RUNS.made(drawn)
    with holding(connection, RUNS, rows):
        found = rest_of(connection, RUNS, pb.ListRunsRequest(page_size=size))
    assert found == [row["run_id"] for row in reversed(rows)]


FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "statuses": st.lists(st.sampled_from(["queuing", "running", *ENDED]), min_size=1, max_size=3),
        "rollout_ids": st.lists(st.sampled_from(["ro-00", "ro-07", "ro-14", "ro-99"]), min_size=1, max_size=3),
        "rollout_id_contains": st.sampled_from(["1", "RO", "_", "ro-2"]),
        "run_id": st.just("run"),
        "queue": st.just("other"),
        "mode": st.integers(1, 3),
        "labels": st.sampled_from([{"k": "x"}, {"k": "x", "l": "y"}]),
        "min_final_reward": st.sampled_from([-math.inf, -2.0, 0.0, 0.5]),
        "max_final_reward": st.sampled_from([math.inf, 0.0, 0.5]),
    },
)


def holds(name: str, wanted: Any, row: Row) -> bool:
    match name:
        case "statuses" | "rollout_ids":
            return row["status" if name == "statuses" else "rollout_id"] in wanted
        case "rollout_id_contains":
            return wanted in row["rollout_id"]
        case "labels":
            return wanted.items() <= json.loads(row["labels_json"]).items()
        case "min_final_reward":
            return row["final_reward"] is not None and row["final_reward"] >= wanted
        case "max_final_reward":
            return row["final_reward"] is not None and row["final_reward"] <= wanted
    return bool(row[name] == wanted)


def matches(filters: Row, any_of: bool, row: Row) -> bool:
    """`filter_logic` combines what says which rollouts; the rest narrows it further."""
    combined = ("statuses", "rollout_ids", "rollout_id_contains")
    results = {name: holds(name, wanted, row) for name, wanted in filters.items()}
    optional = [result for name, result in results.items() if name in combined]
    required = [result for name, result in results.items() if name not in combined]
    return all(required) and (not optional or (any if any_of else all)(optional))


@settings(max_examples=300)
@given(data=st.data(), filters=FILTERS, any_of=st.booleans(), descending=st.booleans(), size=st.integers(1, 4))
def test_filters_choose_the_same_rollouts_in_every_order(
    connection: sqlite3.Connection, data: st.DataObject, filters: Row, any_of: bool, descending: bool, size: int
) -> None:
    rows = ROLLOUTS.made(data.draw(ROLLOUTS.rows()))
    field = data.draw(st.sampled_from(ROLLOUTS.orders))
    sent = {**filters, "statuses": [proto_rollout_status(status) for status in filters.get("statuses", [])]}
    logic = pb.FilterLogic.FILTER_LOGIC_OR if any_of else pb.FilterLogic.FILTER_LOGIC_AND
    request = pb.ListRolloutsRequest(
        **sent, filter_logic=logic, order_by=field + " desc" * descending, page_size=size, count_total=True
    )
    with holding(connection, ROLLOUTS, rows):
        total = lists.rollouts(Reading(connection, 0), request).total
        found = rest_of(connection, ROLLOUTS, request)
    chosen = [row for row in rows if matches(filters, any_of, row)]
    assert found == in_order(ROLLOUTS, chosen, field, descending)
    assert total == len(chosen)


@pytest.mark.parametrize(
    ("other", "request_"),
    [
        (lists.rollouts, pb.ListRolloutsRequest(order_by="create_time desc")),
        (lists.rollouts, pb.ListRolloutsRequest(order_by="priority")),
        (lists.rollouts, pb.ListRolloutsRequest(run_id="run")),
        (lists.workers, pb.ListWorkersRequest()),
    ],
    ids=["the other direction", "another order", "another filter", "another list"],
)
def test_a_token_is_refused_by_any_list_but_its_own(
    connection: sqlite3.Connection, other: Callable[[Reading, Any], Any], request_: Any
) -> None:
    drawn = {"status": "queuing", "labels_json": {}, "end_time": None, "create_time": 0, "priority": 0, "mode": 0}
    rows = ROLLOUTS.made([{**drawn, "run_id": "", "queue": "", "resources_id": ""}] * 2)
    with holding(connection, ROLLOUTS, rows):
        page = lists.rollouts(Reading(connection, 0), pb.ListRolloutsRequest(page_size=1))
    request_.page_token = page.next_token
    with pytest.raises(StoreError, match="was not given by this list"):
        other(Reading(connection, 0), request_)
