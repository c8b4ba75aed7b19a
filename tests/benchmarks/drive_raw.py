"""The client of a measurement without our Python client, whose cost shows in the difference: stubs on grpc.aio."""

import asyncio
import secrets
import time
from typing import Any

import grpc
from agentlightning.v1 import rollout_pb2, span_pb2
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.store_service_pb2_grpc import StoreServiceStub
from google.protobuf.timestamp_pb2 import Timestamp
from measure import Measured, Server, main, percentiles
from payload import ATTRIBUTES, SPAN_NAME, SPANS

SENDERS = 8
PAGE = 1000
_OPTIONS = (("grpc.max_receive_message_length", -1),)


async def lifecycle(server: Server, rollouts: int, workers: int, spans_by: str = "completion") -> Measured:
    """Dequeue, eight spans, complete. The spans go by a call of their own, or with the completion."""
    async with _channel(server) as channel:
        store = _stub(channel)
        await _enqueue(store, rollouts)
        before = await store.GetStatistics(pb.GetStatisticsRequest())

        async def work(worker_id: str) -> None:
            while assignments := (await store.DequeueRollouts(_claim(worker_id))).assignments:
                attempt = assignments[0].attempt
                ids = {"rollout_id": attempt.rollout_id, "attempt_id": attempt.attempt_id}
                last = [_span(ids, number + 1) for number in range(SPANS)]
                if spans_by == "call":
                    await store.AddSpans(pb.AddSpansRequest(spans=last))
                    last = []
                await store.CompleteAttempt(
                    pb.CompleteAttemptRequest(**ids, succeeded=pb.CompleteAttemptRequest.Succeeded(), spans=last)
                )

        with server.measured(rollouts) as measured:
            await asyncio.gather(*(work(f"worker-{number}") for number in range(workers)))
        after = await store.GetStatistics(pb.GetStatisticsRequest())
        _check(rollouts, _succeeded(after) - _succeeded(before), "rollouts succeeded")
        _check(rollouts * SPANS, after.span_count - before.span_count, "spans stored")
        return measured


async def enqueue(server: Server, rollouts: int, batch: int, callers: int) -> Measured:
    """So many in a call; each caller makes one call after the other."""
    async with _channel(server) as channel:
        store = _stub(channel)
        await _enqueue(store, 1)
        calls = iter(range(rollouts // batch))

        async def call() -> None:
            for _ in calls:
                await _enqueue(store, batch, batch)

        with server.measured(rollouts) as measured:
            await asyncio.gather(*(call() for _ in range(callers)))
        return measured


async def ingest(server: Server, spans: int, batch: int, otlp: bool) -> Measured:
    """Eight senders, each with an attempt of its own and one call at a time."""
    async with _channel(server) as channel:
        store = _stub(channel)
        await _enqueue(store, SENDERS)
        claimed = [(await store.DequeueRollouts(_claim("worker"))).assignments[0].attempt for _ in range(SENDERS)]
        calls = iter(range(spans // batch))

        async def send(attempt: Any) -> None:
            ids = {"rollout_id": attempt.rollout_id, "attempt_id": attempt.attempt_id}
            for _ in calls:
                await store.AddSpans(pb.AddSpansRequest(spans=[_span(ids, n + 1) for n in range(batch)]))

        with server.measured(spans // batch * batch) as measured:
            await asyncio.gather(*map(send, claimed))
        stored = (await store.GetStatistics(pb.GetStatisticsRequest())).span_count
        _check(measured.operations, stored, "spans stored")
        return measured


async def readback(server: Server, spans: int, batch: int) -> Measured:
    """Every span of one rollout, page by page."""
    async with _channel(server) as channel:
        store = _stub(channel)
        await _enqueue(store, 1)
        attempt = (await store.DequeueRollouts(_claim("worker"))).assignments[0].attempt
        ids = {"rollout_id": attempt.rollout_id, "attempt_id": attempt.attempt_id}
        for start in range(0, spans, batch):
            await store.AddSpans(pb.AddSpansRequest(spans=[_span(ids, start + n + 1) for n in range(batch)]))
        request, found = pb.ListSpansRequest(rollout_id=attempt.rollout_id, page_size=PAGE), 0
        with server.measured(spans) as measured:
            while True:
                answer = await store.ListSpans(request)
                found += len(answer.spans)
                request.page_token = answer.next_page_token
                if not request.page_token:
                    break
        _check(spans, found, "spans read")
        return measured


async def listing(server: Server, rollouts: int, pages: int, page: int = 100) -> Measured:
    """A page of those in one status, a hundredth of all, newest first."""
    async with _channel(server) as channel:
        store = _stub(channel)
        ids = await _enqueue(store, rollouts)
        chosen = ids[:: max(len(ids) // (10 * page), 1)]
        await store.CancelRollouts(pb.CancelRolloutsRequest(rollout_ids=chosen[:PAGE]))
        request = pb.ListRolloutsRequest(
            statuses=[rollout_pb2.RolloutStatus.ROLLOUT_STATUS_CANCELLED], order_by="create_time desc", page_size=page
        )
        times = []
        with server.measured(pages) as measured:
            for _ in range(pages):
                began = time.perf_counter()
                await store.ListRollouts(request)
                times.append((time.perf_counter() - began) * 1000)
        measured.values |= percentiles(times)
        return measured


async def one_finished(server: Server, spans: int) -> Measured:
    """Not a measurement: one rollout that went through all that the server does for it."""
    async with _channel(server) as channel:
        store = _stub(channel)
        await _enqueue(store, 1)
        attempt = (await store.DequeueRollouts(_claim("worker"))).assignments[0].attempt
        ids = {"rollout_id": attempt.rollout_id, "attempt_id": attempt.attempt_id}
        await store.AddSpans(pb.AddSpansRequest(spans=[_span(ids, number + 1) for number in range(spans)]))
        await store.CompleteAttempt(pb.CompleteAttemptRequest(**ids, succeeded=pb.CompleteAttemptRequest.Succeeded()))
        return Measured()


async def durability(server: Server) -> Measured:
    """Not a measurement: what the server says of how it keeps things."""
    async with _channel(server) as channel:
        answer = await _stub(channel).GetServerInfo(pb.GetServerInfoRequest())
        return Measured(notes={"durability": answer.durability, "version": answer.version})


def _channel(server: Server) -> Any:
    return grpc.aio.insecure_channel(server.address, options=_OPTIONS)


def _stub(channel: Any) -> Any:
    return StoreServiceStub(channel)


def _claim(worker_id: str) -> pb.DequeueRolloutsRequest:
    return pb.DequeueRolloutsRequest(worker_id=worker_id, request_id=secrets.token_hex(16))


async def _enqueue(store: Any, count: int, batch: int = 200) -> list[str]:
    ids: list[str] = []
    for start in range(0, count, batch):
        rollouts = [
            rollout_pb2.Rollout(input_json=f'{{"question": {n}}}') for n in range(start, min(start + batch, count))
        ]
        request = pb.EnqueueRolloutsRequest(rollouts=rollouts, request_id=secrets.token_hex(16))
        ids += [rollout.rollout_id for rollout in (await store.EnqueueRollouts(request)).rollouts]
    return ids


def _span(ids: dict[str, str], sequence_id: int) -> span_pb2.Span:
    now = Timestamp()
    now.GetCurrentTime()
    return span_pb2.Span(
        **ids,  # type: ignore[arg-type]
        sequence_id=sequence_id,
        trace_id=secrets.token_hex(16),
        span_id=secrets.token_hex(8),
        name=SPAN_NAME,
        kind=span_pb2.SpanKind.SPAN_KIND_INTERNAL,
        start_time=now,
        end_time=now,
        status=span_pb2.SpanStatus(code=span_pb2.SpanStatusCode.SPAN_STATUS_CODE_OK),
        attributes=[
            span_pb2.Attribute(
                key=key,
                value=span_pb2.AttributeValue(**{"int_value" if isinstance(value, int) else "string_value": value}),
            )
            for key, value in ATTRIBUTES.items()
        ],
    )


def _succeeded(statistics: pb.GetStatisticsResponse) -> int:
    succeeded = rollout_pb2.RolloutStatus.ROLLOUT_STATUS_SUCCEEDED
    return sum(count.count for count in statistics.rollouts if count.status == succeeded)


def _check(expected: int, actual: int, what: str) -> None:
    if actual != expected:
        raise RuntimeError(f"{actual} {what}, expected {expected}")


if __name__ == "__main__":
    main([lifecycle, enqueue, ingest, readback, listing, one_finished, durability])
