"""Spans that come while others are on their way go together as the next call, each caller's with its own answer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import agentlightning as agl
import grpc
import pytest
from agentlightning.store.connection import run
from agentlightning.v1.store_service_pb2_grpc import (
    StoreServiceServicer,
    StoreServiceStub,
    add_StoreServiceServicer_to_server,
)

MakeSpan = Callable[..., agl.Span]


class Relay(StoreServiceServicer):
    """Stands before a store: says which spans come in which call, and passes a call on when it may.

    Attributes:
        calls: The names of the spans of each call, as they come.
        may_pass: While it is not set, calls stay here.
        fails: With what a call is answered that has a span of this name.
    """

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._store: Any = StoreServiceStub(self._channel)
        self.calls: list[list[str]] = []
        self.called: asyncio.Queue[None] = asyncio.Queue()
        self.may_pass = asyncio.Event()
        self.fails: dict[str, grpc.StatusCode] = {}

    async def AddSpans(self, request: Any, context: Any) -> Any:
        names = [span.name for span in request.spans]
        self.calls.append(names)
        self.called.put_nowait(None)
        for status in {self.fails[name] for name in names if name in self.fails}:
            await context.abort(status, "as the test says")
        await self.may_pass.wait()
        return await self._store.AddSpans(request)

    async def close(self) -> None:
        await self._channel.close()


@pytest.fixture
async def relay(store_address: str) -> AsyncIterator[tuple[Relay, agl.LightningStoreClient]]:
    relay, server = Relay(store_address), grpc.aio.server()
    add_StoreServiceServicer_to_server(relay, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    client = agl.LightningStoreClient(f"127.0.0.1:{port}", retry_seconds=10)
    yield relay, client
    relay.may_pass.set()
    await client.close()
    await server.stop(0)
    await relay.close()


Pair = tuple[Relay, agl.LightningStoreClient]
Waiting = list[asyncio.Task[Any]]


async def waiting_behind_a_first(pair: Pair, first: agl.Span, others: Sequence[Sequence[agl.Span]]) -> Waiting:
    """Callers whose spans the client has, while a first one's call is on its way."""
    relay, client = pair
    callers = [asyncio.create_task(client.add_many_spans([first]))]
    await relay.called.get()
    callers += [asyncio.create_task(client.add_many_spans(spans)) for spans in others]
    await asyncio.create_task(run(asyncio.sleep(0)))  # whatever was handed over before has arrived
    return callers


async def test_what_comes_while_a_call_is_on_its_way_goes_as_the_next(
    relay: Pair, store: agl.LightningStoreClient, make_span: MakeSpan
) -> None:
    started = await store.start_rollout("task")
    first, *others = [make_span(started, number, sequence_id=0) for number in range(1, 8)]
    pairs = [others[index : index + 2] for index in (0, 2, 4)]
    callers = await waiting_behind_a_first(relay, first, pairs)
    relay[0].may_pass.set()
    answers = await asyncio.gather(*callers)
    assert relay[0].calls == [["span-1"], [f"span-{number}" for number in range(2, 8)]]
    assert [[(span.name, span.sequence_id) for span in answer] for answer in answers] == [
        [("span-1", 1)],
        [("span-2", 2), ("span-3", 3)],
        [("span-4", 4), ("span-5", 5)],
        [("span-6", 6), ("span-7", 7)],
    ]


async def test_who_comes_alone_waits_for_nobody(
    relay: Pair, store: agl.LightningStoreClient, make_span: MakeSpan
) -> None:
    started = await store.start_rollout("task")
    relay[0].may_pass.set()
    for number in (1, 2, 3):
        await relay[1].add_span(make_span(started, number))
    assert relay[0].calls == [["span-1"], ["span-2"], ["span-3"]]


async def test_of_one_call_each_caller_hears_of_its_own_spans(
    relay: Pair, store: agl.LightningStoreClient, make_span: MakeSpan
) -> None:
    started = await store.start_rollout("task")
    known, new = make_span(started, 2), make_span(started, 4)
    await store.add_span(known)
    elsewhere = make_span(started, 3).model_copy(update={"attempt_id": "at-unknown"})
    callers = await waiting_behind_a_first(relay, make_span(started, 1), [[known], [elsewhere], [new]])
    relay[0].may_pass.set()
    _, duplicate, refused, stored = await asyncio.gather(*callers, return_exceptions=True)
    assert relay[0].calls[1:] == [["span-2", "span-3", "span-4"]]
    assert duplicate == []
    assert isinstance(refused, agl.NotFoundError)
    assert stored == [new]


async def test_a_call_that_is_refused_as_a_whole_is_made_again_for_each_caller(
    relay: Pair, store: agl.LightningStoreClient, make_span: MakeSpan
) -> None:
    started = await store.start_rollout("task")
    good, bad = [make_span(started, number) for number in (2, 4)], make_span(started, 3)
    relay[0].fails = {"span-3": grpc.StatusCode.UNIMPLEMENTED}
    callers = await waiting_behind_a_first(relay, make_span(started, 1), [[good[0]], [bad], [good[1]]])
    relay[0].may_pass.set()
    _, before, refused, after = await asyncio.gather(*callers, return_exceptions=True)
    assert (before, after) == ([good[0]], [good[1]])
    assert isinstance(refused, agl.StoreError)
    assert relay[0].calls[1] == ["span-2", "span-3", "span-4"]
    assert sorted(relay[0].calls[2:]) == [["span-2"], ["span-3"], ["span-4"]]


async def test_who_is_cancelled_before_its_spans_are_sent_takes_only_those_away(
    relay: Pair, store: agl.LightningStoreClient, make_span: MakeSpan
) -> None:
    started = await store.start_rollout("task")
    spans = [make_span(started, number) for number in (1, 2, 3)]
    callers = await waiting_behind_a_first(relay, spans[0], [[spans[1]], [spans[2]]])
    callers[1].cancel()
    await asyncio.wait([callers[1]])
    await run(asyncio.sleep(0))  # the client has heard of it
    relay[0].may_pass.set()
    assert await callers[2] == [spans[2]]
    assert relay[0].calls == [["span-1"], ["span-3"]]


async def test_who_is_cancelled_holds_up_none_of_those_who_did_not_fit_into_its_call(
    relay: Pair, store: agl.LightningStoreClient, make_span: MakeSpan
) -> None:
    started = await store.start_rollout("task")
    first, *others = [make_span(started, number) for number in range(1, 1003)]
    callers = await waiting_behind_a_first(relay, first, [others[:1000], others[1000:]])
    callers[1].cancel()
    await asyncio.wait([callers[1]])
    await run(asyncio.sleep(0))  # the client has heard of it
    relay[0].may_pass.set()
    assert await callers[2] == others[1000:]


async def test_who_is_cancelled_later_leaves_the_others_their_answers(
    relay: Pair, store: agl.LightningStoreClient, make_span: MakeSpan
) -> None:
    started = await store.start_rollout("task")
    spans = [make_span(started, number) for number in (1, 2, 3)]
    together = [asyncio.create_task(relay[1].add_many_spans([span])) for span in spans]
    await relay[0].called.get()
    together[0].cancel()
    await asyncio.wait([together[0]])
    relay[0].may_pass.set()
    assert await asyncio.gather(*together[1:]) == [[spans[1]], [spans[2]]]
    assert [span.name for span in await store.query_spans(started.rollout_id)] == ["span-1", "span-2", "span-3"]


async def test_a_call_that_is_to_be_repeated_holds_up_no_other(
    relay: Pair, store: agl.LightningStoreClient, make_span: MakeSpan
) -> None:
    started = await store.start_rollout("task")
    first, second = make_span(started, 1), make_span(started, 2)
    relay[0].fails = {"span-1": grpc.StatusCode.UNAVAILABLE}
    relay[0].may_pass.set()
    repeated = asyncio.create_task(relay[1].add_many_spans([first]))
    await relay[0].called.get()
    assert await relay[1].add_many_spans([second]) == [second]
    relay[0].fails.clear()
    assert await repeated == [first]


async def test_a_call_is_not_repeated_for_those_who_are_gone(
    relay: Pair, store: agl.LightningStoreClient, make_span: MakeSpan
) -> None:
    started = await store.start_rollout("task")
    relay[0].fails = {"span-1": grpc.StatusCode.UNAVAILABLE}
    relay[0].may_pass.set()
    together = [asyncio.create_task(relay[1].add_many_spans([make_span(started, number)])) for number in (1, 2)]
    await relay[0].called.get()
    together[0].cancel()
    assert len(await together[1]) == 1
    assert relay[0].calls[-1] == ["span-2"]


async def test_no_call_takes_more_than_the_store_does(
    relay: Pair, store: agl.LightningStoreClient, make_span: MakeSpan
) -> None:
    started = await store.start_rollout("task")
    first, *others = [make_span(started, number) for number in range(1, 1302)]
    batches = [others[:600], others[600:1000], others[1000:]]
    callers = await waiting_behind_a_first(relay, first, batches)
    relay[0].may_pass.set()
    assert [len(stored) for stored in await asyncio.gather(*callers)] == [1, 600, 400, 300]
    assert [len(names) for names in relay[0].calls] == [1, 1000, 300]


async def test_when_the_store_is_gone_all_are_told(
    relay: Pair, store: agl.LightningStoreClient, make_span: MakeSpan
) -> None:
    started = await store.start_rollout("task")
    impatient = agl.LightningStoreClient(relay[1].server_address, retry_seconds=0)
    relay[0].fails = dict.fromkeys(("span-1", "span-2"), grpc.StatusCode.UNAVAILABLE)
    together = [asyncio.create_task(impatient.add_many_spans([make_span(started, number)])) for number in (1, 2)]
    told = await asyncio.gather(*together, return_exceptions=True)
    assert [type(error) for error in told] == [agl.StoreUnavailableError] * 2
