"""What a page of a list costs: as much in a store of a hundred thousand spans as in one of a few thousand.

The cost is counted in steps of SQLite's machine, not in time. The lists that must sort are named, with the reason.
"""

import re
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.rollout_pb2 import RolloutStatus
from agentlightning_server.storage import lists
from agentlightning_server.storage.pages import Page
from agentlightning_server.storage.queries import migrations
from agentlightning_server.storage.transaction import Reading

SMALL, LARGE = 800, 24_000
FAILED, SUCCEEDED = RolloutStatus.ROLLOUT_STATUS_FAILED, RolloutStatus.ROLLOUT_STATUS_SUCCEEDED
FILLED = """
CREATE TEMP TABLE numbers (n INTEGER PRIMARY KEY);
INSERT INTO numbers WITH RECURSIVE up (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM up WHERE n < {count})
SELECT n FROM up;

INSERT INTO rollouts (
  rollout_id, run_id, queue, priority, queue_position, status, mode, input_json, resources_id, resources_version,
  max_attempts, retry_condition, max_redeliveries, metadata_json, labels_json, create_time, end_time, attempt_count,
  latest_attempt_id, final_reward, revision
) SELECT
  'ro-' || substr('00000' || n, -5), 'run-' || (n % 4), 'queue-' || (n % 4), 0, n,
  CASE n % 4 WHEN 0 THEN 'queuing' WHEN 1 THEN 'failed' ELSE 'succeeded' END, n % 4, '{{}}', '', 0,
  1, '', 3, '', '{{}}', n / 40, CASE WHEN n % 4 THEN n / 40 END, 1,
  'at-' || n, CASE WHEN n % 4 THEN n % 4 - 1 END, n
FROM numbers;

INSERT INTO attempts (attempt_id, rollout_id, sequence_id, status, worker_id, start_time, end_time, revision)
SELECT 'at-' || n, 'ro-' || substr('00000' || n, -5), 1, 'failed', '', 0, 0, n FROM numbers
UNION ALL
SELECT 'at-0-' || n, 'ro-00000', n, 'failed', '', 0, 0, n FROM numbers;

INSERT INTO spans (rollout_id, attempt_id, span_id, sequence_id, trace_id, parent_span_id, name, span)
SELECT 'ro-' || substr('00000' || n, -5), 'at-' || n, value, value, '', '', '', x'' FROM numbers, json_each('[1, 2, 3]')
UNION ALL
SELECT 'ro-00000', 'at-0-1', n, n / 40, '', '', 'name', x'' FROM numbers;

INSERT INTO resources (revision, resources_id, version, run_id, create_time, update_time, resources)
SELECT n, CASE n % 8 WHEN 0 THEN 'same' ELSE 'rs-' || n END, CASE n % 8 WHEN 0 THEN n / 8 ELSE 1 END, 'run-' || (n % 4),
  0, 0, x'' FROM numbers;

INSERT INTO runs (run_id, queue, algorithm, status, labels_json, revision, run)
SELECT 'run-' || n, '', '', 1, '{{}}', n, x'' FROM numbers;

INSERT INTO workers (worker_id, revision) SELECT 'w-' || n, n FROM numbers;
"""


class Case(NamedTuple):
    """A list, and what SQLite says it reads it by: its first page, and a deeper one if that is something else."""

    list_: Callable[[Reading, Any], Page[Any]]
    request: Any
    step: str
    deeper: str = ""


def rollouts(step: str, deeper: str = "", **fields: Any) -> Case:
    return Case(lists.rollouts, pb.ListRolloutsRequest(**fields), step, deeper)


def walked(order: str, index: str) -> dict[str, Case]:
    step, deeper = f"SCAN r USING INDEX {index}", f"SEARCH r USING INDEX {index}"
    return {
        f"rollouts by {order}": rollouts(step, deeper, order_by=order),
        f"rollouts by {order}, the last first": rollouts(step, deeper, order_by=f"{order} desc"),
    }


INDEXED = {
    **walked("create_time", "rollouts_create_time"),
    **walked("end_time", "rollouts_end_time"),
    **walked("final_reward", "rollouts_final_reward"),
    **walked("rollout_id", "sqlite_autoindex_rollouts_1"),
    **walked("revision", "rollouts_revision"),
    "rollouts of a run": rollouts("SEARCH r USING INDEX rollouts_run (run_id=?", run_id="run-1"),
    "rollouts of a run, the newest first": rollouts(
        "SEARCH r USING INDEX rollouts_run (run_id=?", run_id="run-1", order_by="create_time desc"
    ),
    "rollouts of a run in a status": rollouts(
        "SEARCH r USING INDEX rollouts_run (run_id=?", run_id="run-1", statuses=[FAILED]
    ),
    "rollouts in a queue": rollouts("SEARCH r USING INDEX rollouts_of_queue (queue=?", queue="queue-1"),
    "rollouts in a status": rollouts("SEARCH r USING INDEX rollouts_status (status=?", statuses=[FAILED]),
    "rollouts in two statuses, the newest first": rollouts(
        "SEARCH r USING INDEX rollouts_status (status=?", statuses=[FAILED, SUCCEEDED], order_by="create_time desc"
    ),
    **{
        f"rollouts in two statuses by {order}, the last first": rollouts(
            f"SCAN r USING INDEX {index}",
            f"SEARCH r USING INDEX {index}",
            order_by=f"{order} desc",
            statuses=[FAILED, SUCCEEDED],
        )
        for order, index in (("final_reward", "rollouts_final_reward"), ("revision", "rollouts_revision"))
    },
    "rollouts in two statuses, the last to end first": rollouts(
        "SEARCH r USING INDEX rollouts_end_time (end_order",
        order_by="end_time desc",
        statuses=[FAILED, SUCCEEDED],
    ),
    "rollouts in a status or with an id": rollouts(
        "SCAN r USING INDEX rollouts_create_time",
        "SEARCH r USING INDEX rollouts_create_time",
        statuses=[FAILED],
        rollout_ids=["ro-00001"],
        filter_logic=pb.FilterLogic.FILTER_LOGIC_OR,
    ),
    "rollouts of at least a reward, the best first": rollouts(
        "SEARCH r USING INDEX rollouts_final_reward (reward_order>? AND reward_order<?)",
        "SEARCH r USING INDEX rollouts_final_reward",
        min_final_reward=0,
        order_by="final_reward desc",
    ),
    "rollouts of at least a reward, the worst of them first": rollouts(
        "SEARCH r USING INDEX rollouts_final_reward (reward_order>? AND reward_order<?)",
        "SEARCH r USING INDEX rollouts_final_reward",
        min_final_reward=1,
        order_by="final_reward",
    ),
    "rollouts of at most a reward, the newest first": rollouts(
        "SCAN r USING INDEX rollouts_create_time",
        "SEARCH r USING INDEX rollouts_create_time",
        max_final_reward=0,
        order_by="create_time desc",
    ),
    "attempts": Case(
        lists.attempts,
        pb.ListAttemptsRequest(rollout_id="ro-00000"),
        "SEARCH attempts USING INDEX sqlite_autoindex_attempts_2 (rollout_id=?",
    ),
    "spans": Case(
        lists.spans,
        pb.ListSpansRequest(rollout_id="ro-00000"),
        "SEARCH spans USING INDEX spans_rollout (rollout_id=?",
    ),
    "spans, the last first": Case(
        lists.spans,
        pb.ListSpansRequest(rollout_id="ro-00000", order_by="sequence_id desc"),
        "SEARCH spans USING INDEX spans_rollout (rollout_id=?",
    ),
    "spans of an attempt with a name": Case(
        lists.spans,
        pb.ListSpansRequest(rollout_id="ro-00000", attempt_id="at-0-1", name_contains="am"),
        "SEARCH spans USING INDEX spans_rollout (rollout_id=?",
    ),
    "resources": Case(
        lists.resources,
        pb.ListResourcesRequest(),
        "SCAN resources USING INDEX resources_last",
        "SEARCH resources USING INDEX resources_last (revision>?)",
    ),
    "resources of a run": Case(
        lists.resources,
        pb.ListResourcesRequest(run_id="run-1"),
        "SEARCH resources USING INDEX resources_last_of_run (run_id=?",
    ),
    "every version of resources": Case(
        lists.resources,
        pb.ListResourcesRequest(all_versions=True),
        "SCAN resources",
        "SEARCH resources USING INTEGER PRIMARY KEY (rowid>?)",
    ),
    "every version of resources of a run": Case(
        lists.resources,
        pb.ListResourcesRequest(all_versions=True, run_id="run-1"),
        "SEARCH resources USING INDEX resources_run (run_id=?",
    ),
    "runs": Case(lists.runs, pb.ListRunsRequest(), "SCAN runs", "SEARCH runs USING INTEGER PRIMARY KEY (rowid<?)"),
    "workers": Case(
        lists.workers, pb.ListWorkersRequest(), "SCAN workers", "SEARCH workers USING PRIMARY KEY (worker_id>?)"
    ),
}
SORTS = {
    "few values, so an index would say little": [
        *(rollouts("SCAN r", order_by=order) for order in ("status", "mode", "priority", "resources_id")),
        rollouts("SEARCH r USING INDEX rollouts_status (status=?)", statuses=[FAILED], order_by="mode"),
    ],
    "a run's rollouts are few": [
        rollouts("SEARCH r USING INDEX rollouts_run (run_id=?)", run_id="run-1", order_by="final_reward"),
        rollouts("SEARCH r USING INDEX rollouts_of_queue (queue=?)", queue="queue-1", order_by="end_time"),
    ],
    "so are the ids that one names": [
        rollouts(
            "SEARCH r USING INDEX sqlite_autoindex_rollouts_1 (rollout_id=?)",
            "SEARCH r USING INDEX rollouts_create_time (create_time=? AND rowid>?)",  # those of the same microsecond
            rollout_ids=[f"ro-{number:05}" for number in range(20)],
        )
    ],
    "so are the attempts of a rollout, and its spans": [
        Case(
            lists.attempts,
            pb.ListAttemptsRequest(rollout_id="ro-00000", order_by="start_time"),
            "SEARCH attempts USING INDEX sqlite_autoindex_attempts_2 (rollout_id=?)",
        ),
        Case(
            lists.spans,
            pb.ListSpansRequest(rollout_id="ro-00000", order_by="start_time"),
            "SEARCH spans USING INDEX spans_rollout (rollout_id=?)",
        ),
    ],
    "so are resources": [
        Case(lists.resources, pb.ListResourcesRequest(order_by="update_time"), "SCAN resources"),
        Case(
            lists.resources,
            pb.ListResourcesRequest(resources_id="same", all_versions=True),
            "SEARCH resources USING INDEX sqlite_autoindex_resources_1 (resources_id=?)",
        ),
    ],
    "so are workers": [Case(lists.workers, pb.ListWorkersRequest(order_by="last_busy_time"), "SCAN workers")],
}


class Watched:
    """A connection that keeps what it was asked last."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.asked: tuple[str, tuple[Any, ...]] = ("", ())

    def execute(self, text: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        self.asked = text, values
        return self.connection.execute(text, values)


def store_of(count: int) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    for script in migrations():
        connection.executescript(script)
    connection.executescript(f"BEGIN; {FILLED.format(count=count)} COMMIT")
    return connection


@pytest.fixture(scope="module")
def small() -> Iterator[sqlite3.Connection]:
    connection = store_of(SMALL)
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def large() -> Iterator[sqlite3.Connection]:
    connection = store_of(LARGE)
    yield connection
    connection.close()


def page_of(connection: Any, case: Case, token: str = "", **fields: Any) -> Page[Any]:
    request = type(case.request)(page_token=token, page_size=10, **fields)
    request.MergeFrom(case.request)
    return case.list_(Reading(connection, 0), request)


def plan(connection: sqlite3.Connection, case: Case, token: str = "") -> list[str]:
    """What SQLite does for a page, but for looking attempts up and merging what it found."""
    watched = Watched(connection)
    page_of(watched, case, token)
    text, values = watched.asked
    steps = [row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", values)]
    return [step for step in steps if re.match(r"(SEARCH|SCAN) (?!a |json_each)|USE TEMP", step)]


def cost(connection: sqlite3.Connection, case: Case, token: str = "") -> int:
    """How many steps SQLite takes for a page."""
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    connection.set_progress_handler(count, 1)
    page_of(connection, case, token)
    connection.set_progress_handler(None, 1)
    return steps


def deep_token(connection: sqlite3.Connection, case: Case, count: int) -> str:
    """The token of a page far down; lists that cannot skip are short enough to walk."""
    if "skip" in case.request.DESCRIPTOR.fields_by_name:
        return page_of(connection, case, skip=count // 16).next_token
    return page_of(connection, case).next_token


@pytest.mark.parametrize("name", sorted(INDEXED))
def test_a_page_is_read_along_an_index(small: sqlite3.Connection, name: str) -> None:
    case = INDEXED[name]
    steps = plan(small, case)
    assert steps
    assert all(step.startswith(case.step) for step in steps)


@pytest.mark.parametrize("name", sorted(INDEXED))
def test_a_deep_page_is_found_by_its_key(small: sqlite3.Connection, name: str) -> None:
    case = INDEXED[name]
    token = deep_token(small, case, SMALL)
    assert token
    steps = plan(small, case, token)
    assert steps
    assert all(step.startswith(case.deeper or case.step) for step in steps)


@pytest.mark.parametrize("name", sorted(INDEXED))
def test_a_page_costs_the_same_however_much_there_is_and_however_deep_it_lies(
    small: sqlite3.Connection, large: sqlite3.Connection, name: str
) -> None:
    case = INDEXED[name]
    assert cost(large, case) < 1.5 * cost(small, case)
    deep = cost(large, case, deep_token(large, case, LARGE))
    assert deep < 1.5 * cost(small, case, deep_token(small, case, SMALL))


@pytest.mark.parametrize(("reason", "case"), [(reason, case) for reason, cases in SORTS.items() for case in cases])
def test_what_must_sort_has_a_reason_and_reads_only_what_it_must(
    small: sqlite3.Connection, reason: str, case: Case
) -> None:
    for token in ("", page_of(small, case).next_token):
        steps = plan(small, case, token)
        assert any(step.startswith("USE TEMP B-TREE") for step in steps)
        if case.step.startswith("SEARCH"):
            assert all(step.startswith((case.step, case.deeper or case.step, "USE TEMP B-TREE")) for step in steps)


def test_the_last_version_of_one_id_is_looked_up(large: sqlite3.Connection, small: sqlite3.Connection) -> None:
    case = Case(lists.resources, pb.ListResourcesRequest(resources_id="same"), "")
    assert cost(large, case) == cost(small, case)


def test_counting_reads_an_index_and_joins_nothing(small: sqlite3.Connection) -> None:
    asked: list[str] = []
    small.set_trace_callback(asked.append)
    assert page_of(small, INDEXED["rollouts by create_time"], count_total=True).total == SMALL
    small.set_trace_callback(None)
    [step] = [row["detail"] for row in small.execute(f"EXPLAIN QUERY PLAN {asked[0]}")]
    assert "COVERING INDEX" in step
