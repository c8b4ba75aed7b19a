"""What is stuck in a store and why, and what ended without anything to learn from. Reads the store, changes nothing.

All ages are by the store's clock.
"""

import statistics
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from typing import Final

from agentlightning.cli.checks.finding import Finding, Verdict
from agentlightning.cli.facts import server
from agentlightning.cli.show.text import counted, duration, fitted, plain
from agentlightning.store import LightningStoreClient
from agentlightning.store.convert import optional_seconds, seconds
from agentlightning.types import AttemptedRollout, Rollout, RolloutStatus
from agentlightning.v1 import store_service_pb2 as pb

_WAITING: Final[tuple[RolloutStatus, ...]] = ("queuing", "requeuing")
_LIVE: Final[tuple[RolloutStatus, ...]] = ("preparing", "running")
_LOOKED_AT, _SPANS_LOOKED_AT, _NAMED = 100, 20, 3
_LONG_WAIT, _LONG_SILENCE, _LONG_RUN = 60.0, 120.0, 60.0
_OF_LATE, _NOW = 3600.0, 90.0
_TIMES_LONGER, _FEW = 10, 5


async def work(client: LightningStoreClient) -> AsyncIterator[Finding]:
    """Look at the queues, at what runs, at the workers and at what has ended."""
    info = await server.server_info(client)
    counts = await server.statistics(client)
    now = seconds(info.current_time)
    ended = await _rollouts(client, ["succeeded", "failed"], "end_time desc")
    succeeded = [rollout for rollout in ended if rollout.status == "succeeded"]
    for queue in counts.queues:
        if queue.queued_count:
            yield await _queue(client, queue, now)
    running = await _rollouts(client, _LIVE, "create_time")
    live = [rollout for rollout in running if isinstance(rollout, AttemptedRollout)]
    leased = {held.worker_id for held in counts.leases if held.HasField("first_lease_expire_time")}
    for finding in (*_silent(live, leased, now), *_slow(live, succeeded, now), *await _workers(client, now)):
        yield finding
    for finding in (*_failures(ended), *_rewards(succeeded), *_lost(ended)):
        yield finding
    for finding in await _spans(client, succeeded[:_SPANS_LOOKED_AT]):
        yield finding


async def _rollouts(
    client: LightningStoreClient, statuses: Sequence[RolloutStatus], order_by: str, queue: str | None = None
) -> list[Rollout]:
    return await server.rollouts(client, statuses=statuses, order_by=order_by, limit=_LOOKED_AT, queue=queue)


async def _queue(client: LightningStoreClient, queue: pb.GetStatisticsResponse.Queue, now: float) -> Finding:
    age = optional_seconds(queue, "oldest_age") or 0.0
    what = f"{counted(queue.queued_count, 'rollout')} in queue {queue.queue!r}, the oldest for {duration(age)}"
    live = await _rollouts(client, _LIVE, "create_time", queue.queue)
    if live:
        return Finding("queues", "ok", f"{what}; {len(live)}{'+' * (len(live) == _LOOKED_AT)} at work")
    waiting = await _rollouts(client, _WAITING, "create_time", queue.queue)
    if waiting and all((rollout.available_time or 0.0) > now for rollout in waiting):
        return Finding("queues", "ok", f"{what}; pausing after a failure, as the retry policies say")
    if age < _LONG_WAIT:
        return Finding("queues", "ok", what)
    way_out = f"start a runner: agl runner MODULE:AGENT --store {client.server_address} --queue {queue.queue}"
    way_out += "; if they are left over: agl rollouts cancel ROLLOUT"
    return Finding("queues", "problem", f"{what}, and nobody is at work on it", way_out)


def _silent(live: Sequence[AttemptedRollout], leased: Collection[str], now: float) -> Iterator[Finding]:
    """What has no lease that would end it, and was not heard of for long."""
    silences = {
        rollout.rollout_id: silence
        for rollout in live
        if (rollout.attempt.worker_id or "") not in leased and not rollout.config.unresponsive_seconds
        if (silence := now - (rollout.attempt.last_heartbeat_time or rollout.attempt.start_time)) > _LONG_SILENCE
    }
    if silences:
        longest = duration(max(silences.values()))
        what = f"nothing was heard of {_some([*silences])} for up to {longest}, and no lease ends them"
        way_out = "if nobody is at work on them: agl rollouts cancel ROLLOUT; RolloutConfig(unresponsive_seconds=...)"
        yield Finding("silent", "warning", what, way_out)


def _slow(live: Sequence[AttemptedRollout], succeeded: Sequence[Rollout], now: float) -> Iterator[Finding]:
    """What runs far longer than what has ended took; without enough of that there is no saying."""
    times = [
        rollout.end_time - rollout.attempt.start_time
        for rollout in succeeded
        if isinstance(rollout, AttemptedRollout) and rollout.end_time is not None
    ]
    if len(times) < _FEW:
        return
    usual = statistics.median(times)
    limit = max(_LONG_RUN, _TIMES_LONGER * usual)
    slow = [rollout.rollout_id for rollout in live if now - rollout.attempt.start_time > limit]
    if slow:
        what = f"{_some(slow)} run for more than {duration(limit)}; others take {duration(usual)}"
        way_out = "agl trace ROLLOUT shows where it is; RolloutConfig(timeout_seconds=...) ends such"
        yield Finding("slow", "warning", what, way_out)
    elif live:
        yield Finding("slow", "ok", f"of {counted(len(live), 'rollout')} at work none runs far longer than others took")


async def _workers(client: LightningStoreClient, now: float) -> list[Finding]:
    workers = await client.query_workers()
    heard = {
        worker.worker_id: max(
            *(worker.last_heartbeat_time or 0.0, worker.last_dequeue_time or 0.0),
            *(worker.last_busy_time or 0.0, worker.last_idle_time or 0.0),
        )
        for worker in workers
    }
    of_late = sum(now - time < _NOW for time in heard.values())
    busy = sum(worker.status == "busy" for worker in workers)
    counts = f"{counted(len(workers), 'worker')} known, {busy} busy, {of_late} heard of in the last {duration(_NOW)}"
    found = [Finding("workers", "ok", counts)]
    gone = [w.worker_id for w in workers if w.status == "unknown" and _NOW < now - heard[w.worker_id] < _OF_LATE]
    if gone:
        what = f"{_some(gone)} went silent at work, or let it time out, and came for no more"
        found.append(Finding("workers", "warning", what, "look into their logs; start them again"))
    return found


def _failures(ended: Sequence[Rollout]) -> Iterator[Finding]:
    failed = [rollout for rollout in ended if rollout.status == "failed" and isinstance(rollout, AttemptedRollout)]
    if not failed:
        if ended:
            yield Finding("failures", "ok", f"none of the last {counted(len(ended), 'rollout')} that ended")
        return
    reasons = Counter(f"{r.attempt.failure.kind}: {r.attempt.failure}" for r in failed if r.attempt.failure)
    often = [f"; most often {plain(reason)}" for reason, _ in reasons.most_common(1)]
    what = fitted(f"{len(failed)} of the last {len(ended)} rollouts that ended failed{''.join(often)}", 160).rstrip()
    verdict: Verdict = "warning" if len(failed) * 2 > len(ended) else "ok"
    yield Finding("failures", verdict, what, f"agl trace {failed[0].rollout_id}")


def _rewards(succeeded: Sequence[Rollout]) -> Iterator[Finding]:
    if not succeeded:
        return
    without = [rollout.rollout_id for rollout in succeeded if rollout.final_reward is None]
    if not without:
        yield Finding("rewards", "ok", f"the last {counted(len(succeeded), 'rollout')} that succeeded have one")
        return
    verdict: Verdict = "problem" if len(without) == len(succeeded) else "warning"
    what = f"{len(without)} of the last {len(succeeded)} rollouts that succeeded have none, and no mean counts them"
    way_out = "the agent returns a number, or calls agl.emit_reward; see agl trace " + without[0]
    yield Finding("rewards", verdict, what, way_out)


def _lost(ended: Sequence[Rollout]) -> Iterator[Finding]:
    lost = {r.rollout_id: r.attempt.lost_span_count for r in ended if isinstance(r, AttemptedRollout)}
    if count := sum(lost.values()):
        what = f"runners could not deliver {counted(count, 'span')} of {_some([id for id, n in lost.items() if n])}"
        yield Finding("spans", "warning", what, "what is learnt from them is not all; see the runners' logs")


async def _spans(client: LightningStoreClient, succeeded: Sequence[Rollout]) -> list[Finding]:
    """Whether the spans of rollouts that succeeded are there, and what there is to learn from."""
    from agentlightning.adapter import is_llm_call

    if not succeeded:
        return []
    empty, without_calls = [], []
    for rollout in succeeded:
        spans = await client.query_spans(rollout.rollout_id, "latest", limit=_LOOKED_AT)
        if not spans:
            empty.append(rollout.rollout_id)
        elif not any(map(is_llm_call, spans)):
            without_calls.append(rollout.rollout_id)
    found = []
    if empty:
        what = f"{len(empty)} of the last {len(succeeded)} rollouts that succeeded have none: {_some(empty)}"
        way_out = "run agents under a tracer: agl.LitAgentRunner(tracer=agl.Tracer())"
        found.append(Finding("spans", "problem", what, way_out))
    if without_calls:
        what = f"{len(without_calls)} of the last {len(succeeded)} rollouts that succeeded hold no call of a model"
        verdict: Verdict = "ok" if len(without_calls) < len(succeeded) else "warning"
        way_out = f"see agl explain {without_calls[0]}; run agl doctor where the agent runs"
        found.append(Finding("spans", verdict, what, way_out))
    return found or [Finding("spans", "ok", f"the last {len(succeeded)} that succeeded hold calls of models")]


def _some(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return plain(", ".join(names[:_NAMED])) + rest
