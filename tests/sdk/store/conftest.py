"""What the tests of the store's client share."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import agentlightning as agl
import grpc
import pytest
from agentlightning.v1.store_service_pb2_grpc import (
    StoreServiceServicer,
    StoreServiceStub,
    add_StoreServiceServicer_to_server,
)

MakeSpan = Callable[..., agl.Span]
BOUND = 10.0


@pytest.fixture
def make_span() -> MakeSpan:
    """A span of an attempted rollout, told from others by its number."""

    def make(of: agl.AttemptedRollout, number: int = 1, **fields: object) -> agl.Span:
        known = {"name": f"span-{number}", "sequence_id": number, "attributes": {}}
        ids = {"trace_id": f"{number:032x}", "span_id": f"{number:016x}"}
        return agl.Span(
            **{**known, **ids, **fields},  # type: ignore[arg-type]
            rollout_id=of.rollout_id,
            attempt_id=of.attempt.attempt_id,
        )

    return make


@pytest.fixture
async def run_store(store: agl.LightningStoreClient) -> AsyncIterator[agl.LightningStoreClient]:
    """A client bound to a run of its own: what it lists is the test's alone."""
    run = await store.create_run("test")
    bound = store.bind(run_id=run.run_id)
    yield bound
    await bound.close()


class ClaimRelay(StoreServiceServicer):
    """Stands before a store: says which claims and completions come, and passes each on when it may.

    Attributes:
        client: A client that knows the store by this address, with the queue of the test's `store`.
        calls: What is asked, call by call.
        loses: With what the next calls are answered, once the store has done what they ask.
    """

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._store: Any = StoreServiceStub(self._channel)
        self._may_pass = asyncio.Semaphore(0)
        self._called: asyncio.Queue[None] = asyncio.Queue()
        self._released: asyncio.Queue[list[str]] = asyncio.Queue()
        self.client: agl.LightningStoreClient
        self.calls: list[Any] = []
        self.loses: list[grpc.StatusCode] = []

    def let_pass(self, calls: int = 100) -> None:
        """Pass on so many of the calls that are here or come; until then they stay."""
        for _ in range(calls):
            self._may_pass.release()

    async def call_comes(self) -> None:
        """The next call is here."""
        await asyncio.wait_for(self._called.get(), BOUND)

    async def attempts_are_released(self) -> list[str]:
        """The next attempts to be given back in one call."""
        return await asyncio.wait_for(self._released.get(), BOUND)

    async def DequeueRollouts(self, request: Any, context: Any) -> Any:
        return await self._pass_on(self._store.DequeueRollouts, request, context)

    async def CompleteAttempts(self, request: Any, context: Any) -> Any:
        return await self._pass_on(self._store.CompleteAttempts, request, context)

    async def ReleaseAttempts(self, request: Any, context: Any) -> Any:
        answer = await self._store.ReleaseAttempts(request)
        self._released.put_nowait(list(answer.released_attempt_ids))
        return answer

    async def StreamDequeue(self, requests: Any, context: Any) -> None:  # type: ignore[override]
        await context.abort(grpc.StatusCode.UNIMPLEMENTED)

    async def close(self) -> None:
        await self._channel.close()

    async def _pass_on(self, method: Any, request: Any, context: Any) -> Any:
        self.calls.append(request)
        self._called.put_nowait(None)
        await self._may_pass.acquire()
        answer = await method(request)
        if self.loses:
            await context.abort(self.loses.pop(0), "as the test says")
        return answer


@pytest.fixture
async def claim_relay(store_address: str, store: agl.LightningStoreClient) -> AsyncIterator[ClaimRelay]:
    relay, server = ClaimRelay(store_address), grpc.aio.server()
    add_StoreServiceServicer_to_server(relay, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    relay.client = agl.LightningStoreClient(f"127.0.0.1:{port}", queue=store.queue, retry_seconds=10)
    yield relay
    relay.let_pass()
    await relay.client.close()
    await server.stop(0)
    await relay.close()
