"""Counts of what the store holds."""

from agentlightning.v1.store_service_pb2 import GetStatisticsResponse

from agentlightning_server.storage.rows import proto_rollout_status, timestamp
from agentlightning_server.storage.transaction import Reading


def count(tx: Reading) -> GetStatisticsResponse:
    """What the store holds, by status and queue."""
    others = tx.one("count_others")
    assert others is not None
    attempts, spans, resources, workers, runs = others
    return GetStatisticsResponse(
        rollouts=[
            GetStatisticsResponse.StatusCount(status=proto_rollout_status(status), count=number)
            for status, number in tx.all("count_rollouts")
        ],
        queues=[
            GetStatisticsResponse.Queue(queue=queue, queued_count=number, oldest_create_time=timestamp(oldest))
            for queue, number, oldest in tx.all("count_queues")
        ],
        attempt_count=attempts,
        span_count=spans,
        resources_count=resources,
        worker_count=workers,
        run_count=runs,
        revision=tx.revision(),
    )
