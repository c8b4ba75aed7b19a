"""Workers: what they say about themselves, and what their attempts say about them."""

from agentlightning.v1.error_reason_pb2 import ErrorReason
from agentlightning.v1.worker_pb2 import Worker, WorkerStatus

from agentlightning_server.errors import StoreError
from agentlightning_server.lifecycle.states import AttemptStatus
from agentlightning_server.storage.rows import timestamp
from agentlightning_server.storage.transaction import Reading, Transaction

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
    return Worker.FromString(row[0])


def heartbeat(tx: Transaction, worker_id: str, stats_json: str) -> Worker:
    """Note what a worker says about itself."""
    worker = _known_or_new(tx, worker_id)
    worker.heartbeat_stats_json = stats_json or worker.heartbeat_stats_json
    worker.last_heartbeat_time.CopyFrom(timestamp(tx.now))
    _put(tx, worker)
    return worker


def on_dequeue(tx: Transaction, worker_id: str, *, found: bool) -> None:
    """Note that a worker asked for work; one that got none holds nothing."""
    if not worker_id:
        return
    worker = _known_or_new(tx, worker_id)
    worker.last_dequeue_time.CopyFrom(timestamp(tx.now))
    if not found and not worker.current_attempt_id and worker.status != WorkerStatus.WORKER_STATUS_IDLE:
        worker.status = WorkerStatus.WORKER_STATUS_IDLE
        worker.last_idle_time.CopyFrom(timestamp(tx.now))
    _put(tx, worker)


def follow_attempt(tx: Transaction, worker_id: str, rollout_id: str, attempt_id: str, status: AttemptStatus) -> None:
    """Have a worker's status follow the attempt it was given last; an older one says nothing about it."""
    if not worker_id:
        return
    worker = _known_or_new(tx, worker_id)
    if status is AttemptStatus.PREPARING or (status.is_live and not worker.current_attempt_id):
        worker.status = WorkerStatus.WORKER_STATUS_BUSY
        worker.last_busy_time.CopyFrom(timestamp(tx.now))
        worker.current_rollout_id, worker.current_attempt_id = rollout_id, attempt_id
    elif worker.current_attempt_id != attempt_id:
        return
    elif not status.is_live:
        silent = status in _SILENT
        worker.status = WorkerStatus.WORKER_STATUS_UNKNOWN if silent else WorkerStatus.WORKER_STATUS_IDLE
        worker.last_idle_time.CopyFrom(timestamp(tx.now))
        worker.current_rollout_id = worker.current_attempt_id = ""
    worker.revision = tx.next_revision()
    _put(tx, worker)


def _known_or_new(tx: Transaction, worker_id: str) -> Worker:
    row = tx.one("worker", worker_id=worker_id)
    new = Worker(worker_id=worker_id, status=WorkerStatus.WORKER_STATUS_UNKNOWN)
    return new if row is None else Worker.FromString(row[0])


def _put(tx: Transaction, worker: Worker) -> None:
    tx.run("put_worker", worker_id=worker.worker_id, status=worker.status, worker=worker.SerializeToString())
