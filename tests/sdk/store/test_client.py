"""A client is an address: from any loop, thread or process, it finds the store again."""

import asyncio
import os
import pickle
import threading
from contextvars import ContextVar

import agentlightning as agl
import grpc
import pytest
from agentlightning.store.connection import Backoff, run


@pytest.mark.parametrize("address", ["localhost:x", "ftp://host:1", "", "http://host:1/path"])
def test_what_is_not_an_address_is_refused(address: str) -> None:
    with pytest.raises(agl.InvalidRequestError, match="expected host:port"):
        agl.LightningStoreClient(address)


@pytest.mark.parametrize("scheme", ["", "http://", "grpc://"])
async def test_every_spelling_of_an_address_connects(store_address: str, scheme: str) -> None:
    assert (await agl.LightningStoreClient(scheme + store_address).statistics())["total_rollouts"] >= 0


async def test_a_store_that_is_not_there_is_said_so() -> None:
    with pytest.raises(agl.StoreUnavailableError, match=r"no store answers at localhost:1 .*agl store"):
        await agl.LightningStoreClient("localhost:1", retry_seconds=0.2).statistics()


async def test_a_store_that_goes_away_late_in_a_long_call_is_tried_for_as_long_as_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    now, passed, backoff = loop.time, 40, Backoff(retry_seconds=9)
    monkeypatch.setattr(loop, "time", lambda: now() + passed)
    gone = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "gone")
    for _ in range(3):
        await backoff.pause_or_raise(gone, "localhost:1")
        passed += 4
    with pytest.raises(agl.StoreUnavailableError):
        await backoff.pause_or_raise(gone, "localhost:1")


async def test_a_call_that_breaks_off_for_no_reason_given_is_made_again_but_not_for_ever() -> None:
    backoff = Backoff(retry_seconds=60)
    broken = grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), "RST_STREAM")
    for _ in range(4):
        await backoff.pause_or_raise(broken, "localhost:1")
    with pytest.raises(agl.StoreError, match="RST_STREAM"):
        await backoff.pause_or_raise(broken, "localhost:1")


def test_a_client_outlives_event_loops(store_address: str) -> None:
    client = agl.LightningStoreClient(store_address)
    asyncio.run(client.statistics())
    asyncio.run(client.statistics())


async def test_a_client_works_from_threads(store: agl.LightningStoreClient) -> None:
    results: list[object] = []
    threads = [threading.Thread(target=lambda: results.append(asyncio.run(store.statistics()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert len(results) == 4


def test_a_client_is_pickled_as_its_address(store_address: str) -> None:
    client = agl.LightningStoreClient(store_address, queue="q", run_id="run-1")
    copy = pickle.loads(pickle.dumps(client))
    assert (copy.server_address, copy.queue, copy.run_id) == (store_address, "q", "run-1")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_a_process_forked_from_one_that_talked_to_a_store_is_refused_in_words(
    store: agl.LightningStoreClient,
) -> None:
    await store.statistics()
    child = os.fork()
    if child == 0:
        try:
            asyncio.new_event_loop().run_until_complete(store.statistics())
        except agl.StoreError as error:
            os._exit(0 if "spawning" in str(error) else 1)
        finally:
            os._exit(2)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize(
    ("address", "endpoint"), [("h:1", "http://h:1"), ("grpc://h", "http://h:4747"), ("grpcs://h:1/", "https://h:1")]
)
def test_otlp_exporters_are_told_an_address_they_understand(address: str, endpoint: str) -> None:
    assert agl.LightningStoreClient(address).otlp_traces_endpoint() == endpoint


def test_a_client_may_be_used_from_anywhere_and_takes_spans_of_any_exporter() -> None:
    capabilities = agl.LightningStoreClient().capabilities
    assert capabilities == {"thread_safe": True, "async_safe": True, "zero_copy": True, "otlp_traces": True}


async def test_what_a_caller_has_in_its_context_stays_there() -> None:
    identity = ContextVar("identity", default="none")
    identity.set("of a rollout")

    async def seen() -> str:
        return identity.get()

    assert await run(seen()) == "none"


async def test_many_calls_from_several_loops_are_answered_each_in_its_own() -> None:
    async def echo(number: int) -> int:
        await asyncio.sleep(0)
        if number % 10 == 7:
            raise ValueError(number)
        return number

    async def ask() -> list[object]:
        return await asyncio.gather(*(run(echo(number)) for number in range(100)), return_exceptions=True)

    for answers in await asyncio.gather(ask(), *(asyncio.to_thread(asyncio.run, ask()) for _ in range(4))):
        assert [answer if isinstance(answer, int) else repr(answer) for answer in answers] == [
            f"ValueError({number})" if number % 10 == 7 else number for number in range(100)
        ]


async def test_statistics_count_what_comes(store: agl.LightningStoreClient) -> None:
    before = await store.statistics()
    started = await store.start_rollout("task", worker_id=f"worker-{store.queue}")
    ids = {"rollout_id": started.rollout_id, "attempt_id": started.attempt.attempt_id}
    await store.add_span(agl.Span.from_attributes(attributes={}, **ids))
    await store.add_resources({"prompt": "one"})
    await store.enqueue_rollout("waiting")
    after = await store.statistics()
    kinds = ("total_rollouts", "total_attempts", "total_spans", "total_resources", "total_workers")
    assert [after[kind] - before[kind] for kind in kinds] == [2, 1, 1, 1, 1]
    assert after["name"] == "LightningStoreClient"
    assert after["uptime"] > before["uptime"]
    assert after["queued"][store.queue or ""] == 1
    assert after["live_attempts"][f"worker-{store.queue}"] == 1
    assert after["revision"] > before["revision"]
