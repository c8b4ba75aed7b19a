"""Runs: opened, changed by named fields, closed."""

import secrets
from typing import Any

from agentlightning.v1.error_reason_pb2 import ErrorReason
from agentlightning.v1.run_pb2 import Run, RunStatus
from agentlightning.v1.store_service_pb2 import UpdateRunRequest

from agentlightning_server.errors import StoreError
from agentlightning_server.storage.rows import labels_json, micros, timestamp
from agentlightning_server.storage.transaction import Reading, Transaction


def create(tx: Transaction, new: Run) -> Run:
    """Open a run."""
    run = Run()
    run.CopyFrom(new)
    run.run_id = "run-" + secrets.token_hex(6)
    run.queue = new.queue or run.run_id
    run.status = RunStatus.RUN_STATUS_RUNNING
    run.create_time.CopyFrom(timestamp(tx.now))
    run.ClearField("end_time")
    run.revision = tx.next_revision()
    tx.run(
        "insert_run",
        run_id=run.run_id,
        queue=run.queue,
        algorithm=run.algorithm,
        **_changing_columns(run),
    )
    return run


def get(tx: Reading, run_id: str) -> Run:
    """One run.

    Raises:
        StoreError: There is no such run.
    """
    if (row := tx.one("run", run_id=run_id)) is None:
        raise StoreError(ErrorReason.ERROR_REASON_RUN_NOT_FOUND, f"Run {run_id} not found", run_id=run_id)
    return Run.FromString(row["run"])


def update(tx: Transaction, request: UpdateRunRequest) -> Run:
    """Change the named fields of a run.

    Raises:
        StoreError: There is no such run, or it is not at the revision it should be.
    """
    run = get(tx, request.run.run_id)
    if request.if_revision and request.if_revision != run.revision:
        raise StoreError(
            ErrorReason.ERROR_REASON_REVISION_MISMATCH,
            f"run {run.run_id} is at revision {run.revision}, not {request.if_revision}: read it again",
            run_id=run.run_id,
            if_revision=request.if_revision,
            revision=run.revision,
        )
    request.update_mask.MergeMessage(request.run, run, replace_message_field=True, replace_repeated_field=True)
    if "status" in request.update_mask.paths:
        run.ClearField("end_time")
        if run.status != RunStatus.RUN_STATUS_FAILED and "failure" not in request.update_mask.paths:
            run.ClearField("failure")
        if run.status != RunStatus.RUN_STATUS_RUNNING:
            run.end_time.CopyFrom(timestamp(max(tx.now, micros(run.create_time))))
    run.revision = tx.next_revision()
    tx.run("update_run", run_id=run.run_id, **_changing_columns(run))
    return run


def _changing_columns(run: Run) -> dict[str, Any]:
    return {
        "status": run.status,
        "labels_json": labels_json(run.labels),
        "revision": run.revision,
        "run": run.SerializeToString(),
    }
