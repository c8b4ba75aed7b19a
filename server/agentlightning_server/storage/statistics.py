"""Counts of what the store holds: read from what is kept as things change, so that asking often costs nothing."""

from collections import Counter, defaultdict

from agentlightning.v1.store_service_pb2 import GetStatisticsResponse

from agentlightning_server.lifecycle.states import RolloutStatus
from agentlightning_server.storage.rows import duration, proto_rollout_status, timestamp
from agentlightning_server.storage.transaction import Reading, Row


def count(tx: Reading) -> GetStatisticsResponse:
    """What the store holds, by status and queue, and who holds its leases."""
    by_queue: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in tx.all("count_rollouts"):
        by_queue[row["queue"]][row["status"]] = row["count"]
    others = tx.one("count_others")
    assert others is not None
    return GetStatisticsResponse(
        rollouts=_by_status(sum(by_queue.values(), Counter())),
        queues=[_queue(tx, queue, counts) for queue, counts in by_queue.items()],
        leases=[_leases(row) for row in tx.all("count_leases")],
        attempt_count=others["attempt_count"],
        span_count=others["span_count"],
        resources_count=others["resources_count"],
        worker_count=others["worker_count"],
        run_count=others["run_count"],
        revision=others["revision"],
        database_bytes=others["database_bytes"],
    )


def _by_status(counts: Counter[str]) -> list[GetStatisticsResponse.StatusCount]:
    return [
        GetStatisticsResponse.StatusCount(status=proto_rollout_status(status), count=counts[status])
        for status in RolloutStatus
        if counts[status]
    ]


def _queue(tx: Reading, queue: str, counts: Counter[str]) -> GetStatisticsResponse.Queue:
    oldest = tx.one("oldest_queued", queue=queue)
    assert oldest is not None
    time = oldest["create_time"]
    return GetStatisticsResponse.Queue(
        queue=queue,
        queued_count=counts[RolloutStatus.QUEUING] + counts[RolloutStatus.REQUEUING],
        oldest_create_time=None if time is None else timestamp(time),
        oldest_age=None if time is None else duration(max(0, tx.now - time)),
        rollouts=_by_status(counts),
    )


def _leases(row: Row) -> GetStatisticsResponse.WorkerLeases:
    expire_time = row["first_lease_expire_time"]
    return GetStatisticsResponse.WorkerLeases(
        worker_id=row["worker_id"],
        attempt_count=row["count"],
        first_lease_expire_time=None if expire_time is None else timestamp(expire_time),
    )
