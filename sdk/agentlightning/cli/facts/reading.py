"""One reading of a store's instruments: what waits, what runs, how fast, who holds it, what went wrong. JSON.

All its times are the server's own, so that a clock that differs here changes nothing. Knows no terminal.
"""

from collections.abc import Sequence
from typing import Any, Final

from agentlightning.cli.facts import server
from agentlightning.store import LightningStoreClient
from agentlightning.store.convert import optional_seconds, seconds, statistics_from_proto
from agentlightning.types import AttemptedRollout, Rollout, RolloutStatus
from agentlightning.v1 import store_service_pb2 as pb

Reading = dict[str, Any]

_RATES = {
    "enqueued": "rollouts_created",
    "started": "attempts_started",
    "completed": "rollouts_ended",
    "spans": "spans_stored",
}
_LIVE: Final[tuple[RolloutStatus, ...]] = ("preparing", "running")
_LOOKED_AT, _SHOWN = 100, 5


async def read(client: LightningStoreClient, queue: str | None = None) -> Reading:
    """Read the instruments.

    Args:
        client: The store.
        queue: Only what is in this queue; rates, leases and workers are the whole store's all the same.
    """
    info = await server.server_info(client)
    counts = await server.statistics(client)
    live = await server.rollouts(client, statuses=_LIVE, order_by="create_time", limit=_LOOKED_AT, queue=queue)
    failed = await server.rollouts(client, statuses=["failed"], order_by="end_time desc", limit=_SHOWN, queue=queue)
    now = seconds(info.current_time)
    queues = {entry.queue: _queue(entry) for entry in counts.queues if queue in (None, entry.queue)}
    running = sorted((_running(rollout, now) for rollout in live), key=lambda told: -told["running_seconds"])
    return {
        "queue": queue,
        "queued": sum(told["queued"] for told in queues.values()),
        "running": sum(told["running"] for told in queues.values()),
        "queues": queues,
        "rates": _rates(counts.rates),
        "leases": _leases(counts.leases, running, now),
        "workers": {"known": counts.worker_count, "busy": sum(1 for held in counts.leases if held.worker_id)},
        "slowest": running[:_SHOWN],
        "failures": [_failure(rollout, now) for rollout in failed],
        "server": {
            "address": client.server_address,
            "version": info.version,
            "uptime_seconds": seconds(counts.uptime),
            "database_path": info.database_path,
            "database_bytes": counts.database_bytes,
            "revision": counts.revision,
        },
    }


def _queue(entry: pb.GetStatisticsResponse.Queue) -> Reading:
    statuses = statistics_from_proto("", pb.GetStatisticsResponse(rollouts=entry.rollouts))["rollouts_by_status"]
    return {
        "queued": entry.queued_count,
        "oldest_queued_seconds": optional_seconds(entry, "oldest_age"),
        "running": sum(count for status, count in statuses.items() if status in _LIVE),
        **{status: statuses.get(status, 0) for status in ("succeeded", "failed", "cancelled")},
    }


def _rates(rates: pb.GetStatisticsResponse.Rates) -> Reading:
    per_second = {f"{name}_per_second": getattr(rates, field) for name, field in _RATES.items()}
    return {"window_seconds": seconds(rates.window), **per_second}


def _leases(leases: Sequence[pb.GetStatisticsResponse.WorkerLeases], running: Sequence[Reading], now: float) -> Reading:
    ends = [end for held in leases if (end := optional_seconds(held, "first_lease_expire_time")) is not None]
    return {
        "held": sum(held.attempt_count for held in leases),
        "first_ends_in_seconds": min(ends) - now if ends else None,
        "oldest_heartbeat_seconds": max((told["silent_seconds"] for told in running), default=None),
    }


def _running(rollout: Rollout, now: float) -> Reading:
    attempt = rollout.attempt if isinstance(rollout, AttemptedRollout) else None
    begun = attempt.start_time if attempt else rollout.start_time
    heard = attempt and attempt.last_heartbeat_time
    return {
        "rollout_id": rollout.rollout_id,
        "queue": rollout.queue,
        "worker_id": attempt and attempt.worker_id,
        "running_seconds": max(0.0, now - begun),
        "silent_seconds": max(0.0, now - (heard or begun)),
    }


def _failure(rollout: Rollout, now: float) -> Reading:
    failure = rollout.attempt.failure if isinstance(rollout, AttemptedRollout) else None
    return {
        "rollout_id": rollout.rollout_id,
        "queue": rollout.queue,
        "ended_seconds_ago": max(0.0, now - (rollout.end_time or now)),
        "kind": failure and failure.kind,
        "reason": str(failure) if failure else "not said",
    }
