"""Answers that are lost on the way, after the commit: whoever asks again is told what it was told first, once done."""

import asyncio
import contextlib
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
from agentlightning import LightningStoreClient, PromptTemplate, Span
from agentlightning.types import EnqueueRolloutRequest
from agentlightning.v1 import resources_pb2, rollout_pb2, run_pb2, span_pb2
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.store_service_pb2_grpc import StoreServiceStub
from agentlightning_server.app import running
from agentlightning_server.config import Config

T = TypeVar("T")

BOUND = 10
DATA, HEADERS, END_STREAM, GRPC_PREFIX = 0, 1, 1, 5
"""HTTP/2's frame types and the flag of a call's last frame; the bytes that gRPC puts before a message."""
TABLES = ("rollouts", "attempts", "spans", "resources", "runs")
PROMPT = {"prompt": PromptTemplate(template="t")}


class Proxy:
    """Stands between client and server; told to, it keeps a whole answer to itself and closes the connection.

    Attributes:
        address: Where it listens.
        dropped: The messages it kept.
    """

    def __init__(self, target: str) -> None:
        self._host, _, self._port = target.rpartition(":")
        self._is_to_drop = False
        self._connections: set[asyncio.Task[None]] = set()
        self.dropped: list[bytes] = []

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def drop_next(self) -> None:
        self._is_to_drop = True

    async def _connect(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        from_server, to_server = await asyncio.open_connection(self._host, self._port)
        requests = asyncio.create_task(self._forward(from_client, to_server))
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            await self._answer(from_server, to_client)
        requests.cancel()
        await asyncio.gather(requests, return_exceptions=True)
        for writer in (to_server, to_client):
            writer.transport.abort()
        self._connections.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward frame by frame, until the one that ends a call whose answer is to be dropped."""
        message = b""
        while True:
            head = await reader.readexactly(9)
            body = await reader.readexactly(int.from_bytes(head[:3], "big"))
            kind, flags = head[3], head[4]
            if not self._is_to_drop or kind not in (DATA, HEADERS):
                writer.write(head + body)
                await writer.drain()
                continue
            message += body if kind == DATA else b""
            if flags & END_STREAM:
                self._is_to_drop = False
                self.dropped.append(message[GRPC_PREFIX:])
                return


class Store:
    """A server, and clients that reach it past the proxy or through it."""

    def __init__(self, database: Path, proxy: Proxy, stub: Any, stub_through: Any) -> None:
        self.database = database
        self.proxy = proxy
        self.stub, self.stub_through = stub, stub_through
        self.through = LightningStoreClient(proxy.address, retry_seconds=BOUND)

    async def enqueue(self) -> str:
        return await one_of(
            self.stub.EnqueueRollouts(pb.EnqueueRolloutsRequest(rollouts=[rollout_pb2.Rollout(input_json="1")]))
        )

    async def losing_the_answer(self, call: Coroutine[Any, Any, T]) -> T:
        """What a client makes of a call through the proxy whose first answer is lost."""
        self.proxy.drop_next()
        return await call

    async def claim(self) -> dict[str, str]:
        await self.enqueue()
        [assignment] = (await self.stub.DequeueRollouts(pb.DequeueRolloutsRequest(worker_id="w"))).assignments
        return {"rollout_id": assignment.rollout.rollout_id, "attempt_id": assignment.attempt.attempt_id}

    def kept(self, query: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(query).fetchall()

    def counts(self) -> dict[str, int]:
        return {table: self.kept(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}


async def one_of(call: Any) -> str:
    [rollout] = (await call).rollouts
    return str(rollout.rollout_id)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    database = tmp_path / "store.db"
    async with (
        running(Config(database=database, port=0, grace=0.5)) as address,
        Proxy(address) as proxy,
        grpc.aio.insecure_channel(address) as channel,
        grpc.aio.insecure_channel(proxy.address) as channel_through,
    ):
        store = Store(database, proxy, StoreServiceStub(channel), StoreServiceStub(channel_through))
        yield store
        await store.through.close()


@pytest.fixture(scope="module")
def tally(tell: Callable[[str], None]) -> Iterator[Counter[str]]:
    tally: Counter[str] = Counter()
    yield tally
    tell(
        f"answers dropped after the commit: {tally['dropped']}, of {tally['calls']} calls; {tally['repeats']} repeats, "
        f"{tally['other']} answered otherwise than the first, {tally['doubled']} rows made twice"
    )


@dataclass(frozen=True)
class Call:
    """A call that is to be made once, whatever becomes of its answer.

    Attributes:
        request: What is asked, of a store that this has prepared.
        makes: How many rows more there are after it.
    """

    method: str
    request: Callable[[Store], Coroutine[Any, Any, Any]]
    makes: dict[str, int]


async def enqueue(store: Store) -> Any:
    return pb.EnqueueRolloutsRequest(rollouts=[rollout_pb2.Rollout(input_json="1")] * 3, request_id="r")


async def start_rollout(store: Store) -> Any:
    return pb.StartRolloutRequest(rollout=rollout_pb2.Rollout(input_json="1"), request_id="r")


async def start_attempt(store: Store) -> Any:
    return pb.StartAttemptRequest(rollout_id=await store.enqueue(), request_id="r")


async def dequeue(store: Store) -> Any:
    await store.enqueue()
    await store.enqueue()
    return pb.DequeueRolloutsRequest(worker_id="w", max_rollouts=1, request_id="r")


async def add_resources(store: Store) -> Any:
    resource = resources_pb2.Resource(name="p", prompt_template=resources_pb2.PromptTemplate(template="t"))
    return pb.AddResourcesRequest(resources=resources_pb2.Resources(resources=[resource]), request_id="r")


async def update_resources(store: Store) -> Any:
    request = await add_resources(store)
    request.resources.resources_id = "rs-1"
    return pb.UpdateResourcesRequest(resources=request.resources, request_id="r")


async def create_run(store: Store) -> Any:
    return pb.CreateRunRequest(run=run_pb2.Run(algorithm="a"), request_id="r")


async def complete(store: Store) -> Any:
    ids = await store.claim()
    span = span_pb2.Span(trace_id="1" * 32, span_id="1" * 16, name="last")
    return pb.CompleteAttemptRequest(**ids, succeeded=pb.CompleteAttemptRequest.Succeeded(), spans=[span])


async def release(store: Store) -> Any:
    return pb.ReleaseAttemptsRequest(attempts=[pb.AttemptRef(**await store.claim())])


async def cancel(store: Store) -> Any:
    return pb.CancelRolloutsRequest(rollout_ids=[(await store.claim())["rollout_id"], "ro-unknown"])


CALLS = (
    Call("EnqueueRollouts", enqueue, {"rollouts": 3}),
    Call("StartRollout", start_rollout, {"rollouts": 1, "attempts": 1}),
    Call("StartAttempt", start_attempt, {"attempts": 1}),
    Call("DequeueRollouts", dequeue, {"attempts": 1}),
    Call("AddResources", add_resources, {"resources": 1}),
    Call("UpdateResources", update_resources, {"resources": 1}),
    Call("CreateRun", create_run, {"runs": 1}),
    Call("CompleteAttempt", complete, {"spans": 1}),
    Call("ReleaseAttempts", release, {}),
    Call("CancelRollouts", cancel, {}),
)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.method)
async def test_a_repeat_is_answered_as_the_first_was_and_does_nothing(
    store: Store, call: Call, times: Callable[[int, int], int], tally: Counter[str]
) -> None:
    request = await call.request(store)
    before = store.counts()
    store.proxy.drop_next()
    with pytest.raises(grpc.aio.AioRpcError) as lost:
        await getattr(store.stub_through, call.method)(request)
    assert lost.value.code() is grpc.StatusCode.UNAVAILABLE
    repeats = [await getattr(store.stub, call.method)(request) for _ in range(times(2, 20))]
    first = type(repeats[0]).FromString(store.proxy.dropped[0])
    other = [repeat for repeat in repeats if repeat != first]
    made = {table: count - before[table] for table, count in store.counts().items() if count != before[table]}
    doubled = sum(made.values()) - sum(call.makes.values())
    tally.update(calls=1, dropped=len(store.proxy.dropped), repeats=len(repeats), other=len(other), doubled=doubled)
    assert first.ByteSize()
    assert other == []
    assert made == call.makes


Ids = list[tuple[object, ...]]


async def enqueues(store: Store) -> Ids:
    call = store.through.enqueue_many_rollouts([EnqueueRolloutRequest(input=1)] * 3)
    return [(rollout.rollout_id,) for rollout in await store.losing_the_answer(call)]


async def starts_a_rollout(store: Store) -> Ids:
    started = await store.losing_the_answer(store.through.start_rollout("task"))
    return [(started.rollout_id, started.attempt.attempt_id)]


async def starts_an_attempt(store: Store) -> Ids:
    rollout_id = await store.enqueue()
    started = await store.losing_the_answer(store.through.start_attempt(rollout_id))
    return [(started.rollout_id, started.attempt.attempt_id)]


async def dequeues(store: Store) -> Ids:
    await store.enqueue()
    await store.enqueue()
    claimed = await store.losing_the_answer(store.through.dequeue_many_rollouts(limit=1))
    return [(rollout.rollout_id, rollout.attempt.attempt_id) for rollout in claimed]


async def adds_resources(store: Store) -> Ids:
    added = await store.losing_the_answer(store.through.add_resources(PROMPT))
    return [(added.resources_id, added.version)]


async def updates_resources(store: Store) -> Ids:
    updated = await store.losing_the_answer(store.through.update_resources("rs-1", PROMPT))
    return [(updated.resources_id, updated.version)]


async def creates_a_run(store: Store) -> Ids:
    return [((await store.losing_the_answer(store.through.create_run("a"))).run_id,)]


async def adds_spans(store: Store) -> Ids:
    ids = await store.claim()
    spans = [Span.from_attributes(attributes={}, name="s", **ids) for _ in range(3)]
    stored = await store.losing_the_answer(store.through.add_many_spans(spans))
    return [(span.span_id, span.sequence_id) for span in stored]


async def completes(store: Store) -> Ids:
    ids = await store.claim()
    completed = await store.losing_the_answer(store.through.complete_attempt(**ids))
    return [(completed.rollout_id, completed.status)]


async def cancels(store: Store) -> Ids:
    ids = [await store.enqueue(), await store.enqueue()]
    cancelled = await store.losing_the_answer(store.through.cancel_rollouts(ids))
    return [(rollout.rollout_id, rollout.status) for rollout in cancelled]


@pytest.mark.parametrize(
    ("asks", "kept"),
    [
        (enqueues, "SELECT rollout_id FROM rollouts ORDER BY id"),
        (starts_a_rollout, "SELECT rollout_id, attempt_id FROM attempts"),
        (starts_an_attempt, "SELECT rollout_id, attempt_id FROM attempts"),
        (dequeues, "SELECT rollout_id, attempt_id FROM attempts"),
        (adds_resources, "SELECT resources_id, version FROM resources"),
        (updates_resources, "SELECT resources_id, version FROM resources"),
        (creates_a_run, "SELECT run_id FROM runs"),
        (adds_spans, "SELECT span_id, sequence_id FROM spans ORDER BY id"),
        (completes, "SELECT rollout_id, status FROM rollouts WHERE status = 'succeeded'"),
        (cancels, "SELECT rollout_id, status FROM rollouts WHERE status = 'cancelled' ORDER BY id"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_client_that_lost_an_answer_is_told_of_the_one_thing_it_made(
    store: Store, asks: Callable[[Store], Coroutine[Any, Any, Ids]], kept: str, tally: Counter[str]
) -> None:
    told, there = await asks(store), store.kept(kept)
    tally.update(calls=1, dropped=len(store.proxy.dropped), repeats=1, other=told != there)
    assert len(store.proxy.dropped) == 1
    assert told
    assert told == there
