"""Rollouts: enqueued, claimed, read. Each function is one operation of a transaction."""

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress

from agentlightning.v1.rollout_pb2 import Assignment, Rollout
from agentlightning.v1.store_service_pb2 import AttemptRef, UpdateRolloutRequest
from google.protobuf.field_mask_pb2 import FieldMask

from agentlightning_server.errors import StoreError, rollout_not_found
from agentlightning_server.lifecycle.states import AttemptStatus, RolloutStatus
from agentlightning_server.storage import attempts, resources, verdicts, workers
from agentlightning_server.storage.ids import new_id
from agentlightning_server.storage.rows import (
    input_columns,
    rollout_message,
    rollout_status,
    rollout_with_attempt_message,
)
from agentlightning_server.storage.transaction import Reading, Row, Transaction

DEFAULT_QUEUE = "default"
_ENOUGH_BYTES = 1 << 20
_NEW: Row = {
    "status": RolloutStatus.QUEUING.value,
    **dict.fromkeys(("end_time", "end_revision", "latest_attempt_id", "available_time", "final_reward")),
    **dict.fromkeys(("attempt_count", "redelivery_count", "release_count"), 0),
}


def enqueue(tx: Transaction, new: Iterable[Rollout]) -> list[Rollout]:
    """Put rollouts into their queues."""
    rows = [_insert(tx, rollout) for rollout in new]
    for row in rows:
        tx.notices.queued[row["queue"]] += 1
    return [rollout_message(row, None) for row in rows]


def start(tx: Transaction, new: Rollout, worker_id: str, lease_duration: int | None) -> Assignment:
    """Create a rollout with its first attempt, past the queue."""
    return attempts.begin(tx, _insert(tx, new), worker_id, lease_duration)


def claim(tx: Transaction, queue: str, worker_ids: Sequence[str], limit: int, lease_duration: int) -> list[Assignment]:
    """Lease the first rollouts of a queue, so many to each worker, no more than they can be told in one message."""
    claimed: list[Assignment] = []
    size = 0
    wanted = [worker_id for worker_id in worker_ids for _ in range(limit)]
    for worker_id, key in zip(wanted, tx.all("queued_rollouts", queue=queue, limit=len(wanted)), strict=False):
        if size > _ENOUGH_BYTES:
            break
        row = tx.one("rollout", **key)
        assert row is not None
        claimed.append(attempts.begin(tx, _with_resources(tx, row), worker_id, lease_duration))
        size += claimed[-1].ByteSize()
    found = set(wanted[: len(claimed)])
    for worker_id in dict.fromkeys(worker_ids):
        workers.on_dequeue(tx, worker_id, queue, found=worker_id in found)
    return claimed


def still_leased(tx: Reading, claimed: Iterable[AttemptRef]) -> list[Assignment]:
    """Those of the claimed attempts that are still their holder's, as they stand now."""
    pairs = []
    for ref in claimed:
        with suppress(StoreError):  # deleted meanwhile
            pairs.append(verdicts.find(tx, ref.rollout_id, ref.attempt_id))
    live = [pair for pair in pairs if AttemptStatus(pair.attempt["status"]).is_live and pair.now.is_latest]
    return [attempts.assignment(tx, pair) for pair in live]


def get(tx: Reading, rollout_id: str) -> Rollout:
    """One rollout.

    Raises:
        StoreError: There is no such rollout.
    """
    if (row := tx.one("rollout_with_attempt", rollout_id=rollout_id)) is None:
        raise rollout_not_found(rollout_id)
    return rollout_with_attempt_message(row)


def by_ids(tx: Reading, rollout_ids: Iterable[str]) -> dict[str, Rollout]:
    """Those of the rollouts that there are, by id."""
    rows = tx.all("rollouts_by_id", rollout_ids=json.dumps(list(rollout_ids)))
    return {row["rollout_id"]: rollout_with_attempt_message(row) for row in rows}


def update(tx: Transaction, request: UpdateRolloutRequest) -> Rollout:
    """Change the named fields of a rollout, as an administrator."""
    asked, paths = request.rollout, set(request.update_mask.paths)
    changed = get(tx, asked.rollout_id)
    if fields := paths - {"status"}:
        FieldMask(paths=fields).MergeMessage(asked, changed, replace_message_field=True, replace_repeated_field=True)
        if "resources_id" in fields:
            changed.resources_version = asked.resources_version
        tx.run(
            "update_rollout_fields", rollout_id=asked.rollout_id, revision=tx.next_revision(), **input_columns(changed)
        )
        if changed.HasField("latest_attempt"):
            verdicts.announce_deadline(tx, verdicts.find(tx, asked.rollout_id, changed.latest_attempt.attempt_id))
    if "status" in paths:
        attempts.set_rollout_status(tx, asked.rollout_id, rollout_status(asked.status))
    return get(tx, asked.rollout_id)


def _insert(tx: Transaction, new: Rollout) -> Row:
    found = resources.resolve(tx, new.resources_id, new.resources_version, new.run_id)
    columns = input_columns(new)
    if found is not None:
        columns |= {"resources_id": found.resources_id, "resources_version": found.version}
    revision = tx.next_revision()
    row = verdicts.set_columns(
        tx,
        "insert_rollout",
        _NEW,
        rollout_id=_new_id(tx),
        run_id=new.run_id,
        queue=new.queue or DEFAULT_QUEUE,
        priority=new.priority,
        queue_position=revision,
        create_time=tx.now,
        revision=revision,
        **columns,
    )
    tx.move(row["queue"], None, row["status"])
    tx.notices.events["created"] += 1
    return row


def _new_id(tx: Reading) -> str:
    while tx.one("rollout", rollout_id=(rollout_id := new_id("ro-", 12, tx.now, tx.revision()))) is not None:
        pass  # what is random of it is not enough to tell them apart without looking
    return rollout_id


def _with_resources(tx: Transaction, rollout: Row) -> Row:
    """Resources that were not there when the rollout was enqueued may be there now: then it is pinned to them."""
    if rollout["resources_version"]:
        return rollout
    if (found := resources.resolve(tx, rollout["resources_id"], 0, rollout["run_id"])) is None:
        return rollout
    pinned = {"resources_id": found.resources_id, "resources_version": found.version}
    return verdicts.set_columns(tx, "pin_rollout_resources", rollout, **pinned)
