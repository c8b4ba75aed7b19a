"""What changed after a revision, in the order of revisions and in its latest state: what a watch sends.

There is no log of events: everything that changes says at which revision it last did, and is found by that.
"""

from collections.abc import Callable

from agentlightning.v1.resources_pb2 import Resources
from agentlightning.v1.run_pb2 import Run
from agentlightning.v1.store_service_pb2 import WatchResponse

from agentlightning_server.errors import revision_out_of_range
from agentlightning_server.storage.fitting import fitting
from agentlightning_server.storage.rows import rollout_with_attempt_message, worker_message
from agentlightning_server.storage.transaction import Reading, Row

Change = WatchResponse.Change

_KEYS = 1000
_CHANGES: dict[str, tuple[str, Callable[[Row], Change]]] = {
    "rollout": ("changed_rollout", lambda row: Change(rollout=rollout_with_attempt_message(row))),
    "resources": ("changed_resources", lambda row: Change(resources=Resources.FromString(row["resources"]))),
    "run": ("changed_run", lambda row: Change(run=Run.FromString(row["run"]))),
    "worker": ("changed_worker", lambda row: Change(worker=worker_message(row))),
    "tombstone": ("tombstone", lambda row: Change(deleted=_tombstone(row))),
}


def _tombstone(row: Row) -> WatchResponse.Tombstone:
    """What was deleted: of the two that can be, only rollouts have a queue."""
    kind = "rollout_id" if row["queue"] else "worker_id"
    return WatchResponse.Tombstone(**{kind: row["id"]})


def begin(tx: Reading, after: int) -> int:
    """The revision up to which a watch that begins now need not be told of deletions.

    Raises:
        StoreError: Deletions since that revision are forgotten, or the store has not reached it.
    """
    store = _store(tx)
    if after > store["revision"] or 0 < after < store["forgotten_revision"]:
        raise revision_out_of_range(after, store["forgotten_revision"], store["revision"])
    return after or int(store["revision"])


def since(tx: Reading, after: int, begun: int, run_id: str, queue: str) -> tuple[WatchResponse, bool]:
    """What changed next, as much as one message takes, and whether more did.

    Args:
        tx: The view to read.
        after: The revision up to which everything has been told.
        begun: What `begin` said.
        run_id: Only what belongs to this run; empty for all.
        queue: Only what belongs to this queue; empty for all.

    Raises:
        StoreError: The watch has been so slow that deletions it was not told of are forgotten.
    """
    store = _store(tx)
    if store["forgotten_revision"] > max(after, begun):
        raise revision_out_of_range(after, store["forgotten_revision"], store["revision"])
    keys = tx.all("changes", after=after, limit=_KEYS)
    wanted = [key for key in keys if _is_wanted(key, begun, run_id, queue)]
    changes = fitting(_read(tx, key) for key in wanted)
    more = len(changes) < len(wanted) or len(keys) == _KEYS
    if len(changes) < len(wanted):
        reached = changes[-1].revision
    else:
        reached = keys[-1]["revision"] if more else store["revision"]
    return WatchResponse(changes=changes, revision=reached), more


def _store(tx: Reading) -> Row:
    store = tx.one("revisions")
    assert store is not None
    return store


def _is_wanted(key: Row, begun: int, run_id: str, queue: str) -> bool:
    if key["kind"] == "tombstone" and key["revision"] <= begun:
        return False
    return (not run_id or key["run_id"] == run_id) and (not queue or key["queue"] == queue)


def _read(tx: Reading, key: Row) -> Change:
    query, message = _CHANGES[key["kind"]]
    row = tx.one(query, revision=key["revision"])
    assert row is not None
    change = message(row)
    change.revision = key["revision"]
    return change
