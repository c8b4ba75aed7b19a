"""The client of a measurement, through the public Python client. The same file runs in both systems' environments."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from measure import Measured, Server, main, percentiles
from payload import ATTRIBUTES, SPAN_NAME, SPANS, otlp_request

# isort: split
# Afterwards: the peer imports LiteLLM, which puts the folder above the folder above this process's at the path's head.
import agentlightning as agl
from agentlightning import EnqueueRolloutRequest, LightningStoreClient, Span

IS_OURS = hasattr(LightningStoreClient, "complete_attempt")
POLL_SECONDS = 5.0
"""How long the peer's runner sleeps when its queue is empty."""
SENDERS = 8
Send = Callable[[int], Awaitable[object]]


async def lifecycle(server: Server, rollouts: int, workers: int, spans_by: str = "completion") -> Measured:
    """Dequeue, eight spans, complete. The spans go with the completion, by the client's call for many, or by OTLP.

    The peer's completion takes no spans: they go by its client's call for many, which makes one request a span; its
    client has no other. Its store takes many in one export of OTLP, which neither its client nor its tracer sends.
    """
    store = LightningStoreClient(server.address)
    before = await _counts(store)
    await _enqueue(store, rollouts)

    async def work(worker_id: str, exporter: "_Exporter") -> None:
        while (claimed := await store.dequeue_rollout(worker_id=worker_id)) is not None:
            match spans_by:
                case "completion" if IS_OURS:
                    made = _spans(claimed, SPANS)
                    await store.complete_attempt(claimed.rollout_id, claimed.attempt.attempt_id, spans=made)
                    continue
                case "otlp":
                    await exporter.sender(claimed)(SPANS)
                case _:
                    await store.add_many_spans(_spans(claimed, SPANS))
            await _complete(store, claimed)

    async with _Exporter(store) as exporter:
        with server.measured(rollouts) as measured:
            await asyncio.gather(*(work(f"worker-{number}", exporter) for number in range(workers)))
    after = await _counts(store)
    await store.close()
    _check(rollouts, after["succeeded"] - before["succeeded"], "rollouts succeeded")
    _check(rollouts * SPANS, after["spans"] - before["spans"], "spans stored")
    return measured


async def enqueue(server: Server, rollouts: int, batch: int, callers: int) -> Measured:
    """So many in a call; each caller makes one call after the other."""
    store = LightningStoreClient(server.address)
    await _enqueue(store, 1)
    starts = iter(range(0, rollouts, batch))

    async def call() -> None:
        for start in starts:
            if batch == 1:
                await store.enqueue_rollout(input={"question": start})
            else:
                await store.enqueue_many_rollouts(
                    [EnqueueRolloutRequest(input={"question": start + number}) for number in range(batch)]
                )

    with server.measured(rollouts) as measured:
        await asyncio.gather(*(call() for _ in range(callers)))
    stored = (await store.query_rollouts(limit=1)).total
    await store.close()
    _check(rollouts + 1, stored, "rollouts stored")
    return measured


async def ingest(server: Server, spans: int, batch: int, otlp: bool) -> Measured:
    """Eight senders, each with an attempt of its own and one call at a time."""
    store = LightningStoreClient(server.address)
    await _enqueue(store, SENDERS)
    claimed = [await _dequeue(store) for _ in range(SENDERS)]
    calls = iter(range(spans // batch))

    async def send(attempt: Any, through: Send) -> None:
        for _ in calls:
            await through(batch)

    async with _Exporter(store) as exporter:
        senders = [exporter.sender(attempt) if otlp else _sender(store, attempt) for attempt in claimed]
        for sender in senders:
            await sender(1)
        with server.measured(spans // batch * batch) as measured:
            await asyncio.gather(*map(send, claimed, senders))
    stored = (await _counts(store))["spans"]
    await store.close()
    _check(measured.operations + SENDERS, stored, "spans stored")
    return measured


async def readback(server: Server, spans: int, batch: int) -> Measured:
    """Every span of one rollout, in one call of the client."""
    store = LightningStoreClient(server.address)
    await _enqueue(store, 1)
    claimed = await _dequeue(store)
    async with _Exporter(store) as exporter:
        send = exporter.sender(claimed)
        for _ in range(spans // batch):
            await send(batch)
    with server.measured(spans) as measured:
        found = await store.query_spans(claimed.rollout_id, limit=-1)
    await store.close()
    _check(spans, len({span.span_id for span in found}), "spans read")
    return measured


async def listing(server: Server, rollouts: int, pages: int, page: int = 100) -> Measured:
    """A page of those in one status, a hundredth of all, newest first."""
    store = LightningStoreClient(server.address)
    ids = await _enqueue(store, rollouts)
    chosen = ids[:: max(len(ids) // (10 * page), 1)]
    if IS_OURS:
        await store.cancel_rollouts(chosen)
    else:
        for rollout_id in chosen:
            await store.update_rollout(rollout_id, status="cancelled")
    times = []
    with server.measured(pages) as measured:
        for _ in range(pages):
            began = time.perf_counter()
            found = await store.query_rollouts(
                status_in=["cancelled"], sort_by="start_time", sort_order="desc", limit=page
            )
            times.append((time.perf_counter() - began) * 1000)
    await store.close()
    _check(min(page, len(chosen)), len(found), "rollouts listed")
    measured.values |= percentiles(times)
    return measured


async def start_latency(server: Server, samples: int, least_gap: float, longest_gap: float) -> Measured:
    """From the call that enqueues to the agent's first line, in the system's own runner, which waits for work.

    The gap before each is random: as long as the peer's runner sleeps, so that it finds it anywhere in its sleep.
    """
    started: asyncio.Queue[float] = asyncio.Queue()

    class Agent(agl.LitAgent[Any]):
        async def rollout_async(self, task: Any, resources: Any, rollout: Any) -> float:
            started.put_nowait(time.perf_counter())
            return 1.0

    store = LightningStoreClient(server.address)
    await store.add_resources({"prompt_template": agl.PromptTemplate(template="{question}", engine="f-string")})
    runner: Any = agl.LitAgentRunner(tracer=agl.OtelTracer())
    times = []
    with runner.run_context(agent=Agent(), store=store, worker_id=0), server.measured(samples) as measured:
        loop = asyncio.create_task(runner.iter())
        for _ in range(samples):
            await asyncio.sleep(random.uniform(least_gap, longest_gap))
            began = time.perf_counter()
            await store.enqueue_rollout(input={"question": "when?"})
            times.append((await started.get() - began) * 1000)
        loop.cancel()
        await asyncio.wait({loop})
    await store.close()
    measured.values = percentiles(times)
    return measured


async def wait_latency(server: Server, samples: int) -> Measured:
    """From the call that completes to the return of whoever waits for the rollout."""
    store, waiting = LightningStoreClient(server.address), LightningStoreClient(server.address)

    async def wait(rollout_id: str) -> float:
        # The peer's client refuses to wait longer than a tenth of a second at a time.
        while not await waiting.wait_for_rollouts(rollout_ids=[rollout_id], timeout=30.0 if IS_OURS else 0.1):
            pass
        return time.perf_counter()

    times = []
    with server.measured(samples) as measured:
        for _ in range(samples):
            [rollout_id] = await _enqueue(store, 1)
            claimed = await _dequeue(store)
            waiter = asyncio.create_task(wait(rollout_id))
            await asyncio.sleep(random.uniform(0.02, 0.06))
            began = time.perf_counter()
            await _complete(store, claimed)
            times.append((await waiter - began) * 1000)
    await waiting.close()
    await store.close()
    measured.values = percentiles(times)
    return measured


async def many_workers(server: Server, workers_connected: int, rollouts: int) -> Measured:
    """Workers that wait for work, then much of it at once; the time runs until the last is completed."""
    store = LightningStoreClient(server.address)
    left, done = rollouts, asyncio.Event()
    arrival_seconds = 0.5 if IS_OURS else POLL_SECONDS  # who polls should not do so in step

    async def claim(worker_id: str) -> Any:
        if IS_OURS:
            return await store.dequeue_rollout(worker_id=worker_id, wait_seconds=30.0)
        claimed = await store.dequeue_rollout(worker_id=worker_id)
        if claimed is None:
            await asyncio.sleep(POLL_SECONDS)
        return claimed

    async def work(number: int) -> None:
        nonlocal left
        await asyncio.sleep(arrival_seconds * number / workers_connected)
        while True:
            claimed = await claim(f"worker-{number}")
            if claimed is not None:
                await _complete(store, claimed)
                left -= 1
                if not left:
                    done.set()

    tasks = [asyncio.create_task(work(number)) for number in range(workers_connected)]
    await asyncio.sleep(arrival_seconds + 0.5)
    with server.measured(1) as idle:
        await asyncio.sleep(2.0)
    with server.measured(rollouts) as measured:
        await _enqueue(store, rollouts, batch=1000)
        await _any(done.wait(), *tasks)
    counts = await _counts(store)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await store.close()
    _check(rollouts, counts["succeeded"], "rollouts succeeded")
    if idle.server_seconds is not None:
        measured.values["idle_cpu_percent"] = 100 * idle.server_seconds / idle.seconds
    return measured


class _Exporter:
    """OTLP as each store takes it: ours by gRPC on its port, the peer's by HTTP."""

    def __init__(self, store: Any) -> None:
        self._endpoint = store.otlp_traces_endpoint()

    async def __aenter__(self) -> "_Exporter":
        if IS_OURS:
            import grpc
            from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

            self._open: Any = grpc.aio.insecure_channel(self._endpoint.removeprefix("http://"))
            self._stub: Any = TraceServiceStub(self._open)  # type: ignore[no-untyped-call]
        else:
            import aiohttp  # type: ignore[import-not-found]  # which the peer brings

            self._open = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.close()

    def sender(self, claimed: Any) -> Send:
        ids = claimed.rollout_id, claimed.attempt.attempt_id

        async def by_grpc(count: int) -> None:
            answer = await self._stub.Export(otlp_request(*ids, count))
            _check(0, answer.partial_success.rejected_spans, "spans refused")

        async def by_http(count: int) -> None:
            body = otlp_request(*ids, count).SerializeToString()
            headers = {"content-type": "application/x-protobuf"}
            async with self._open.post(self._endpoint, data=body, headers=headers) as answer:
                answer.raise_for_status()
                await answer.read()

        return by_grpc if IS_OURS else by_http


def _sender(store: Any, claimed: Any) -> Send:
    async def send(count: int) -> None:
        await store.add_many_spans(_spans(claimed, count))

    return send


def _spans(claimed: Any, count: int) -> list[Any]:
    # Numbered here in both systems. The peer's runner asks its store for each number; we spare it those calls.
    return [
        Span.from_attributes(
            attributes=ATTRIBUTES,
            rollout_id=claimed.rollout_id,
            attempt_id=claimed.attempt.attempt_id,
            sequence_id=number + 1,
            name=SPAN_NAME,
        )
        for number in range(count)
    ]


async def _enqueue(store: Any, count: int, batch: int = 200) -> list[str]:
    ids: list[str] = []
    for start in range(0, count, batch):
        some = [EnqueueRolloutRequest(input={"question": number}) for number in range(start, min(start + batch, count))]
        ids += [rollout.rollout_id for rollout in await store.enqueue_many_rollouts(some)]
    return ids


async def _dequeue(store: Any) -> Any:
    claimed = await store.dequeue_rollout(worker_id="worker")
    if claimed is None:
        raise RuntimeError("nothing to dequeue of what was just enqueued")
    return claimed


async def _complete(store: Any, claimed: Any) -> None:
    if IS_OURS:
        await store.complete_attempt(claimed.rollout_id, claimed.attempt.attempt_id)
    else:
        await store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status="succeeded")


async def _counts(store: Any) -> dict[str, int]:
    return {
        "succeeded": (await store.query_rollouts(status_in=["succeeded"], limit=1)).total,
        "spans": (await store.statistics())["total_spans"],
    }


async def _any(*awaitables: Any) -> None:
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    finished, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in finished:
        task.result()


def _check(expected: int, actual: int, what: str) -> None:
    if actual != expected:
        raise RuntimeError(f"{actual} {what}, expected {expected}")


if __name__ == "__main__":
    main([lifecycle, enqueue, ingest, readback, listing, start_latency, wait_latency, many_workers])
