"""How long a store may be out of reach before its client gives it up."""

import asyncio

import agentlightning as agl
import grpc
import pytest
from agentlightning.store.connection import Backoff
from agentlightning.store.presence import until_gone
from agentlightning.testing import TemporaryStore


def broken(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata())


async def an_hour_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    time = loop.time
    monkeypatch.setattr(loop, "time", lambda: time() + 3600)


async def test_a_stream_that_breaks_after_a_quiet_hour_is_taken_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    backoff = Backoff(retry_seconds=60)
    await an_hour_passes(monkeypatch)
    await backoff.pause_or_raise(broken(grpc.StatusCode.UNAVAILABLE), "localhost:1")


async def test_a_call_that_a_stopping_server_cancels_is_made_again() -> None:
    await Backoff(retry_seconds=60).pause_or_raise(broken(grpc.StatusCode.CANCELLED), "localhost:1")


async def test_a_store_that_does_not_answer_for_an_hour_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    backoff = Backoff(retry_seconds=60)
    await an_hour_passes(monkeypatch)
    with pytest.raises(agl.StoreUnavailableError):
        await backoff.pause_or_raise(broken(grpc.StatusCode.DEADLINE_EXCEEDED), "localhost:1")


async def test_a_store_that_ends_is_noticed() -> None:
    with TemporaryStore() as store:
        client = agl.LightningStoreClient(store.address, retry_seconds=0.2)
        waiting = asyncio.create_task(until_gone(client))
        await client.statistics()
        assert not waiting.done()
    with pytest.raises(agl.StoreUnavailableError):
        await waiting
