"""What goes, in steps so small that nobody waits long for one. Each function is one operation and says how much it did.

A rollout goes whole in one commit, with its attempts: nobody ever finds half of one, and nothing is left that could be
reopened. Of spans there may be any number: they follow in steps, and `deletions` remembers whose, over a kill too.
"""

import json
from collections.abc import Iterable, Sequence

from agentlightning.v1.run_pb2 import RunStatus
from agentlightning.v1.store_service_pb2 import DeleteRolloutsResponse

from agentlightning_server.clock import SECOND
from agentlightning_server.lifecycle.states import AttemptStatus
from agentlightning_server.storage import workers
from agentlightning_server.storage.transaction import Reading, Row, Transaction

ROLLOUTS = 100
ATTEMPTS = 500
SPANS = 500
ROWS = 1000
PAGES = 500
_TOMBSTONE_KEPT = 24 * 3600 * SECOND
_EVER = (1 << 62) - 1  # later than any end


def delete_named(
    tx: Transaction, rollout_ids: Sequence[str], run_id: str, ended_for: int | None
) -> DeleteRolloutsResponse:
    """Delete the first of these rollouts, as far as they may go, and say of each what became of it.

    Args:
        tx: The transaction.
        rollout_ids: Which, each once.
        run_id: Only those of this run; empty: of any.
        ended_for: Only those terminal for so many microseconds; None: however short.
    """
    answer = DeleteRolloutsResponse()
    first = rollout_ids[:ROLLOUTS]
    known = {row["rollout_id"]: row for row in tx.all("rollouts_to_delete", rollout_ids=json.dumps(list(first)))}
    going: list[Row] = []
    for rollout_id in first:
        row = known.get(rollout_id)
        if row is None:
            answer.unknown_rollout_ids.append(rollout_id)
        elif row["end_time"] is None or row["end_time"] > _ended_by(tx, ended_for) or run_id not in ("", row["run_id"]):
            answer.kept_rollout_ids.append(rollout_id)
        else:
            going.append(row)
            if _is_enough(going):
                break
    answer.deleted_count = _delete(tx, going)
    return answer


def delete_ended(tx: Transaction, run_id: str, ended_for: int | None) -> int:
    """Delete some terminal rollouts, those that ended first, of a run or of any: see `delete_named`."""
    query = "ended_rollouts_of_run" if run_id else "ended_rollouts"
    which = {"run_id": run_id} if run_id else {}
    going: list[Row] = []
    for row in tx.all(query, ended_by=_ended_by(tx, ended_for), limit=ROLLOUTS, **which):
        going.append(row)
        if _is_enough(going):
            break
    return _delete(tx, going)


def old_runs(tx: Reading, kept: int) -> list[str]:
    """The ended runs before the last so many that have terminal rollouts."""
    return [row["run_id"] for row in tx.all("old_runs", kept=kept, running=RunStatus.RUN_STATUS_RUNNING)]


def delete_spans(tx: Transaction) -> int:
    """Delete some spans of deleted rollouts."""
    left = SPANS
    rollouts = tx.all("deletions", limit=ROLLOUTS)
    for row in rollouts:
        left -= tx.run("delete_spans", rollout_id=row["rollout_id"], limit=left)
        if not left:
            break  # it may have more
        tx.run("end_deletion", rollout_id=row["rollout_id"])
    if left < SPANS:
        tx.run("count_spans", count=left - SPANS)
    return len(rollouts)


def delete_workers(tx: Transaction, silent_for: int) -> int:
    """Delete some workers that hold nothing and of whom nothing was heard for so many microseconds."""
    silent = tx.all("silent_workers", heard_by=tx.now - silent_for, limit=ROWS)
    for row in silent:
        tx.run("delete_worker", worker_id=row["worker_id"])
        _bury(tx, row["worker_id"])
    return len(silent)


def forget_tombstones(tx: Transaction) -> int:
    """Drop some tombstones older than a day, and keep in mind from where on a watch would miss one."""
    row = tx.one("old_tombstone", deleted_by=tx.now - _TOMBSTONE_KEPT, limit=ROWS)
    assert row is not None
    if row["revision"] is None:
        return 0
    tx.run("forget_revision", revision=row["revision"])
    return tx.run("forget_tombstones", revision=row["revision"])


def free_pages(tx: Transaction) -> int:
    """Give some pages that nothing is in back to the file system."""
    free = _free_pages(tx)
    for _ in range(min(free, PAGES)):
        # One at a time: Python takes only the first step of a statement whose rows have no columns.
        tx.connection.execute("PRAGMA incremental_vacuum(1)")
    return free - _free_pages(tx)


def _free_pages(tx: Reading) -> int:
    return int(tx.connection.execute("PRAGMA freelist_count").fetchone()[0])


def _ended_by(tx: Reading, ended_for: int | None) -> int:
    return _EVER if ended_for is None else tx.now - ended_for


def _is_enough(going: Iterable[Row]) -> bool:
    return sum(int(row["attempt_count"]) for row in going) >= ATTEMPTS


def _delete(tx: Transaction, rollouts: Sequence[Row]) -> int:
    attempt_count = 0
    for row in rollouts:
        rollout_id = row["rollout_id"]
        _free_worker(tx, rollout_id)
        attempt_count += tx.run("delete_attempts", rollout_id=rollout_id)
        tx.run("delete_rollout", rollout_id=rollout_id)
        tx.move(row["queue"], row["status"], None)
        tx.run("delete_sequence", rollout_id=rollout_id)
        tx.run("put_deletion", rollout_id=rollout_id)
        _bury(tx, rollout_id, row["run_id"], row["queue"])
    if attempt_count:
        tx.run("count_attempts", count=-attempt_count)
    return len(rollouts)


def _free_worker(tx: Transaction, rollout_id: str) -> None:
    """A rollout that failed may have an attempt that lives again: its worker spoke up late."""
    if (attempt := tx.one("live_attempt", rollout_id=rollout_id)) is not None:
        workers.follow_attempt(tx, attempt["worker_id"], rollout_id, attempt["attempt_id"], AttemptStatus.CANCELLED)


def _bury(tx: Transaction, id_: str, run_id: str = "", queue: str = "") -> None:
    tx.run("put_tombstone", revision=tx.next_revision(), id=id_, run_id=run_id, queue=queue, now=tx.now)
