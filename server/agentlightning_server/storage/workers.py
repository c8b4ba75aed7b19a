"""Workers: what they say about themselves, and what their attempts say about them."""

from agentlightning.v1.error_reason_pb2 import ErrorReason
from agentlightning.v1.worker_pb2 import Worker

from agentlightning_server.errors import StoreError
from agentlightning_server.lifecycle.states import AttemptStatus
from agentlightning_server.storage.rows import worker_message
from agentlightning_server.storage.transaction import Reading, Row, Transaction

_SILENT = (AttemptStatus.TIMEOUT, AttemptStatus.UNRESPONSIVE)


def get(tx: Reading, worker_id: str) -> Worker:
    """One worker.

    Raises:
        StoreError: There is no such worker.
    """
    if (row := tx.one("worker", worker_id=worker_id)) is None:
        raise StoreError(
            ErrorReason.ERROR_REASON_WORKER_NOT_FOUND, f"Worker {worker_id} not found", worker_id=worker_id
        )
    return worker_message(row)


def heartbeat(tx: Transaction, worker_id: str, stats_json: str) -> Worker:
    """Note what a worker says about itself."""
    _known_or_new(tx, worker_id)
    tx.run("set_worker_heartbeat", worker_id=worker_id, now=tx.now, stats_json=stats_json or None)
    return get(tx, worker_id)


def on_dequeue(tx: Transaction, worker_id: str, queue: str, *, found: bool) -> None:
    """Note that a worker asked a queue for work; one that got none holds nothing."""
    if not worker_id:
        return
    if not found and _known_or_new(tx, worker_id)["status"] == "unknown":
        _set_free(tx, worker_id, "", "idle")
    tx.run("set_worker_dequeue", worker_id=worker_id, queue=queue, now=tx.now)


def follow_attempt(tx: Transaction, worker_id: str, rollout_id: str, attempt_id: str, status: AttemptStatus) -> None:
    """Have a worker's status follow the attempt it was given last; an older one says nothing about it."""
    if not worker_id:
        return
    if not status.is_live:
        _set_free(tx, worker_id, attempt_id, "unknown" if status in _SILENT else "idle")
    elif status is AttemptStatus.PREPARING or not _known_or_new(tx, worker_id)["current_attempt_id"]:
        ids = {"worker_id": worker_id, "rollout_id": rollout_id, "attempt_id": attempt_id}
        tx.run("set_worker_busy", **ids, now=tx.now, revision=tx.next_revision())


def _set_free(tx: Transaction, worker_id: str, attempt_id: str, status: str) -> None:
    """Free a worker of an attempt, unless it has another by now."""
    ids = {"worker_id": worker_id, "attempt_id": attempt_id}
    tx.run("set_worker_free", **ids, status=status, now=tx.now, revision=tx.next_revision())


def _known_or_new(tx: Transaction, worker_id: str) -> Row:
    if (row := tx.one("worker", worker_id=worker_id)) is None:
        tx.run("add_worker", worker_id=worker_id, revision=tx.next_revision())
        row = tx.one("worker", worker_id=worker_id)
    assert row is not None
    return row
