"""What SQLite does for each named query: an index however much the store holds, or named here with a reason."""

import re
import sqlite3
from collections.abc import Iterator

import pytest
from agentlightning_server.storage.queries import migrations, queries

SCANS_ALLOWED = {
    "count_leases": "asked for by operators; the index holds the live attempts only",
    "live_attempts": "once at a start; the index holds the live attempts only",
    "renew_leases": "once at a start; the index holds the live attempts only",
}
HOT = {
    "queued_rollouts": "SEARCH rollouts USING INDEX rollouts_queue (queue=?)",
    "rollout": "SEARCH rollouts USING INDEX sqlite_autoindex_rollouts_1 (rollout_id=?)",
    "rollout_with_attempt": "SEARCH r USING INDEX sqlite_autoindex_rollouts_1 (rollout_id=?)",
    "rollouts_by_id": "SEARCH r USING INDEX sqlite_autoindex_rollouts_1 (rollout_id=?)",
    "rollout_endings": "SEARCH rollouts USING INDEX sqlite_autoindex_rollouts_1 (rollout_id=?)",
    "changed_rollout": "SEARCH r USING INDEX rollouts_revision (revision=?)",
    "changed_run": "SEARCH runs USING INDEX runs_revision (revision=?)",
    "changed_worker": "SEARCH workers USING INDEX workers_revision (revision=?)",
    "changed_resources": "SEARCH resources USING INTEGER PRIMARY KEY (rowid=?)",
    "tombstone": "SEARCH tombstones USING INTEGER PRIMARY KEY (rowid=?)",
    "set_rollout_status": "SEARCH rollouts USING INDEX sqlite_autoindex_rollouts_1 (rollout_id=?)",
    "start_rollout_attempt": "SEARCH rollouts USING INDEX sqlite_autoindex_rollouts_1 (rollout_id=?)",
    "attempt": "SEARCH attempts USING PRIMARY KEY (attempt_id=?)",
    "set_attempt_status": "SEARCH attempts USING PRIMARY KEY (attempt_id=?)",
    "touch_attempt": "SEARCH attempts USING PRIMARY KEY (attempt_id=?)",
    "set_attempt_reward": "SEARCH attempts USING PRIMARY KEY (attempt_id=?)",
    "live_attempts": "SCAN attempts USING INDEX attempts_live",
    "renew_leases": "SCAN attempts USING INDEX attempts_live",
    "last_sequence": "SEARCH span_sequences USING PRIMARY KEY (rollout_id=?)",
    "stored_spans": "SEARCH spans USING INDEX sqlite_autoindex_spans_1 (attempt_id=? AND span_id=?)",
    "resources_version": "SEARCH resources USING INDEX sqlite_autoindex_resources_1 (resources_id=? AND version=?)",
    "resources_last_version": "SEARCH resources USING INDEX sqlite_autoindex_resources_1 (resources_id=?)",
    "resources_latest_of_run": "SEARCH resources USING INDEX resources_run (run_id=?)",
    "run": "SEARCH runs USING INDEX sqlite_autoindex_runs_1 (run_id=?)",
    "worker": "SEARCH workers USING PRIMARY KEY (worker_id=?)",
    "request": "SEARCH requests USING PRIMARY KEY (request_id=?)",
    "rollouts_to_delete": "SEARCH rollouts USING INDEX sqlite_autoindex_rollouts_1 (rollout_id=?)",
    "ended_rollouts": "SEARCH rollouts USING INDEX rollouts_end_time (end_order<?)",
    "ended_rollouts_of_run": "SEARCH rollouts USING INDEX rollouts_run_end_time (run_id=? AND end_time<?)",
    "live_attempt": "SEARCH attempts USING INDEX attempts_live (rollout_id=?)",
    "delete_attempts": "SEARCH attempts USING COVERING INDEX sqlite_autoindex_attempts_2 (rollout_id=?)",
    "delete_spans": "SEARCH spans USING COVERING INDEX spans_rollout (rollout_id=?)",
    "forget_tombstones": "SEARCH tombstones USING INTEGER PRIMARY KEY (rowid<?)",
    "forget_requests": "SEARCH requests USING COVERING INDEX requests_expire_time (expire_time<?)",
}
_PARAMETER = re.compile(r":(\w+)")
_SCAN = re.compile(r"SCAN (rollouts|attempts|spans|requests|r|a)\b")


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    for script in migrations():
        connection.executescript(script)
    yield connection
    connection.close()


def plan(connection: sqlite3.Connection, query: str) -> list[str]:
    values = dict.fromkeys(_PARAMETER.findall(query)) or [None] * query.count("?")
    return [row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]


@pytest.mark.parametrize("name", sorted(queries().keys() - SCANS_ALLOWED.keys()))
def test_no_query_walks_through_all_there_is(connection: sqlite3.Connection, name: str) -> None:
    assert [step for step in plan(connection, queries()[name]) if _SCAN.match(step)] == []


@pytest.mark.parametrize("name", sorted(SCANS_ALLOWED))
def test_what_may_walk_through_all_walks_an_index(connection: sqlite3.Connection, name: str) -> None:
    scans = [step for step in plan(connection, queries()[name]) if _SCAN.match(step)]
    assert scans
    assert all("INDEX" in step for step in scans)


@pytest.mark.parametrize("name", sorted(HOT))
def test_a_hot_query_is_answered_by_its_index(connection: sqlite3.Connection, name: str) -> None:
    steps = plan(connection, queries()[name])
    assert HOT[name] in steps
    assert not [step for step in steps if "TEMP B-TREE" in step]


def test_changes_of_all_kinds_are_read_in_order_as_far_as_they_are_asked_for(connection: sqlite3.Connection) -> None:
    """Each kind along its revisions, merged as they are read: nothing behind the limit is touched or sorted."""
    steps = plan(connection, queries()["changes"])
    assert [step for step in steps if step.startswith(("SEARCH", "SCAN", "USE TEMP"))] == [
        "SEARCH rollouts USING INDEX rollouts_revision (revision>?)",
        "SEARCH resources USING INTEGER PRIMARY KEY (rowid>?)",
        "SEARCH runs USING INDEX runs_revision (revision>?)",
        "SEARCH workers USING COVERING INDEX workers_revision (revision>?)",
        "SEARCH tombstones USING INTEGER PRIMARY KEY (rowid>?)",
    ]


def test_the_last_resources_are_found_from_the_end(connection: sqlite3.Connection) -> None:
    """A walk backwards along the primary key that stops at its first step: no sorting."""
    assert plan(connection, queries()["resources_latest"]) == ["SCAN resources"]


def test_a_deleted_rollout_finds_the_attempts_that_go_with_it(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    steps = plan(connection, queries()["delete_rollout"])
    assert "SEARCH attempts USING COVERING INDEX sqlite_autoindex_attempts_2 (rollout_id=?)" in steps


def test_old_tombstones_are_looked_for_from_the_oldest_and_not_beyond_a_step(connection: sqlite3.Connection) -> None:
    """A walk along the primary key that stops at its limit: no sorting."""
    assert not [step for step in plan(connection, queries()["old_tombstone"]) if "TEMP B-TREE" in step]


def test_runs_with_nothing_to_delete_cost_one_look_each(connection: sqlite3.Connection) -> None:
    steps = plan(connection, queries()["old_runs"])
    assert "SEARCH rollouts USING COVERING INDEX rollouts_run_end_time (run_id=? AND end_time>?)" in steps
