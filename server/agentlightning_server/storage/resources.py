"""Resources: immutable versions, the latest of a run or of the store."""

import secrets

from agentlightning.v1.error_reason_pb2 import ErrorReason
from agentlightning.v1.resources_pb2 import Resources

from agentlightning_server.errors import StoreError
from agentlightning_server.storage.rows import timestamp
from agentlightning_server.storage.transaction import Reading, Transaction


def put(tx: Transaction, new: Resources) -> Resources:
    """Write the next version of resources, under a new id when none is given."""
    resources_id = new.resources_id or "rs-" + secrets.token_hex(6)
    before = tx.one("resources_last_version", resources_id=resources_id)
    create_time = tx.now if before is None else before["create_time"]
    update_time = tx.now if before is None else max(tx.now, before["update_time"])
    written = Resources()
    written.CopyFrom(new)
    written.resources_id = resources_id
    written.version = 1 if before is None else Resources.FromString(before["resources"]).version + 1
    written.revision = tx.next_revision()
    written.create_time.CopyFrom(timestamp(create_time))
    written.update_time.CopyFrom(timestamp(update_time))
    tx.run(
        "insert_resources",
        revision=written.revision,
        resources_id=resources_id,
        version=written.version,
        run_id=written.run_id,
        create_time=create_time,
        update_time=update_time,
        resources=written.SerializeToString(),
    )
    return written


def get(tx: Reading, resources_id: str, version: int, run_id: str) -> Resources:
    """One version of resources; see `resolve`.

    Raises:
        StoreError: There are none.
    """
    if (found := resolve(tx, resources_id, version, run_id)) is None:
        wanted = f"{resources_id or 'latest'}" + (f" version {version}" if version else "")
        raise StoreError(
            ErrorReason.ERROR_REASON_RESOURCES_NOT_FOUND,
            f"Resources {wanted} not found",
            resources_id=resources_id,
            version=version,
        )
    return found


def resolve(tx: Reading, resources_id: str, version: int, run_id: str) -> Resources | None:
    """The version named; without a version the last, without an id the last written, of the run first."""
    row = None
    if resources_id and version:
        row = tx.one("resources_version", resources_id=resources_id, version=version)
    elif resources_id:
        row = tx.one("resources_last_version", resources_id=resources_id)
    else:
        if run_id:
            row = tx.one("resources_latest_of_run", run_id=run_id)
        row = row or tx.one("resources_latest")
    return None if row is None else Resources.FromString(row["resources"])
