"""A server that is told to stop ends in time and tells everybody who waits; one that cannot start says why."""

import asyncio
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.rollout_pb2 import Rollout
from agentlightning.v1.store_service_pb2_grpc import StoreServiceStub
from google.protobuf.duration_pb2 import Duration

BOUND = 10.0
HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "ab")
fcntl.flock(file, fcntl.LOCK_SH)
print("holding", flush=True)
sys.stdin.read()
"""

both_signals = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)


def store_at(channel: grpc.aio.Channel) -> Any:
    return StoreServiceStub(channel)


async def told(call: Any) -> str:
    """What a call that waits is told in the end: the name of a status code, or nothing when it is answered empty."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "something" if answer.ByteSize() else ""


async def knows_worker(store: Any, worker_id: str) -> None:
    """Returns once the server has seen this worker ask for work."""
    while True:
        try:
            await store.GetWorker(pb.GetWorkerRequest(worker_id=worker_id))
            return
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND


async def ended(server: Any) -> int | None:
    code: int | None = await asyncio.to_thread(server.wait, BOUND)
    return code


@both_signals
async def test_an_idle_server_ends(serve: Callable[..., Any], number: signal.Signals) -> None:
    server = serve()
    server.send(number)
    assert await ended(server) == 0


@both_signals
async def test_a_server_with_idle_channels_ends(serve: Callable[..., Any], number: signal.Signals) -> None:
    server = serve()
    async with grpc.aio.insecure_channel(server.address) as channel:
        await store_at(channel).GetServerInfo(pb.GetServerInfoRequest())
        server.send(number)
        assert await ended(server) == 0


@both_signals
async def test_whoever_waits_for_rollouts_is_told_to_try_again(
    serve: Callable[..., Any], number: signal.Signals
) -> None:
    server = serve()
    async with grpc.aio.insecure_channel(server.address) as channel:
        store = store_at(channel)
        [rollout] = (
            await store.EnqueueRollouts(pb.EnqueueRolloutsRequest(rollouts=[Rollout(input_json="1")]))
        ).rollouts
        waiting = store.WaitRollouts(pb.WaitRolloutsRequest(rollout_ids=[rollout.rollout_id]))
        await waiting.read()
        server.send(number)
        async with asyncio.timeout(BOUND):
            assert await told(waiting.read()) == "UNAVAILABLE"
        assert await ended(server) == 0


@both_signals
async def test_whoever_watches_is_told_to_try_again(serve: Callable[..., Any], number: signal.Signals) -> None:
    server = serve()
    async with grpc.aio.insecure_channel(server.address) as channel:
        watching = store_at(channel).Watch(pb.WatchRequest())
        await watching.read()
        server.send(number)
        async with asyncio.timeout(BOUND):
            assert await told(watching.read()) == "UNAVAILABLE"
        assert "going away" in await watching.details()
        assert await ended(server) == 0


@both_signals
async def test_whoever_waits_for_work_is_told_that_there_is_none(
    serve: Callable[..., Any], number: signal.Signals
) -> None:
    server = serve()
    async with grpc.aio.insecure_channel(server.address) as channel:
        store = store_at(channel)
        request = pb.DequeueRolloutsRequest(worker_id="w", wait_timeout=Duration(seconds=50))
        waiting = asyncio.ensure_future(told(store.DequeueRollouts(request)))
        async with asyncio.timeout(BOUND):
            await knows_worker(store, "w")
        server.send(number)
        async with asyncio.timeout(BOUND):
            assert await waiting == ""
        assert await ended(server) == 0


@both_signals
async def test_whoever_has_a_stream_is_sent_away(serve: Callable[..., Any], number: signal.Signals) -> None:
    server = serve()
    async with grpc.aio.insecure_channel(server.address) as channel:
        stream = store_at(channel).StreamDequeue()
        await stream.write(pb.StreamDequeueRequest(open=pb.StreamDequeueRequest.Open(credits=1)))
        assert (await stream.read()).HasField("opened")
        server.send(number)
        async with asyncio.timeout(BOUND):
            assert (await stream.read()).HasField("go_away")
            await stream.done_writing()
            assert await stream.read() is grpc.aio.EOF
            assert await stream.code() is grpc.StatusCode.OK
        assert await ended(server) == 0


async def test_a_worker_that_stays_on_its_stream_stops_no_server_from_ending(serve: Callable[..., Any]) -> None:
    server = serve()
    async with grpc.aio.insecure_channel(server.address) as channel:
        stream = store_at(channel).StreamDequeue()
        await stream.write(pb.StreamDequeueRequest(open=pb.StreamDequeueRequest.Open(credits=1)))
        await stream.read()
        server.send(signal.SIGTERM)
        assert await ended(server) == 0


async def test_a_second_signal_harms_nothing(serve: Callable[..., Any]) -> None:
    server = serve()
    server.send(signal.SIGTERM)
    server.send(signal.SIGTERM)
    assert await ended(server) == 0


async def test_what_was_acknowledged_is_there_after_a_stop(serve: Callable[..., Any]) -> None:
    server = serve()
    async with grpc.aio.insecure_channel(server.address) as channel:
        request = pb.EnqueueRolloutsRequest(rollouts=[Rollout(input_json="1")])
        [rollout] = (await store_at(channel).EnqueueRollouts(request)).rollouts
    server.send(signal.SIGTERM)
    await ended(server)
    async with grpc.aio.insecure_channel(serve().address) as channel:
        answer = await store_at(channel).GetRollout(pb.GetRolloutRequest(rollout_id=rollout.rollout_id))
        assert answer.rollout == rollout


async def test_a_second_server_on_the_same_file_is_refused_naming_the_first(serve: Callable[..., Any]) -> None:
    first = serve()
    second = serve()
    assert await ended(second) == 1
    for what in (str(first.database), first.address, str(first.pid)):
        assert what in second.said


async def test_the_file_of_a_server_that_was_killed_is_free(serve: Callable[..., Any]) -> None:
    serve().kill()
    assert serve().address


async def test_a_second_server_on_the_same_port_is_refused_naming_the_store_there(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    first = serve()
    (tmp_path / "other").mkdir()
    second = serve(database=tmp_path / "other" / "store.db", port=first.port)
    assert await ended(second) == 1
    for what in (first.address, str(first.database)):
        assert what in second.said


async def test_a_port_held_by_something_else_is_refused_saying_so(serve: Callable[..., Any]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = serve(port=listener.getsockname()[1])
        assert await ended(server) == 1
    assert "something that is not a store" in server.said


async def test_a_refused_server_says_so_in_one_line(serve: Callable[..., Any]) -> None:
    serve()
    second = serve()
    assert await ended(second) == 1
    assert len(second.said.splitlines()) == 1


async def test_a_file_that_is_no_database_ends_the_server_at_once(serve: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "store.db").write_text("Dear diary, today I became a text file.\n" * 100)
    server = serve()
    assert await ended(server) == 1
    assert "not a database" in server.said


async def test_a_server_lives_as_long_as_a_client_holds_its_lock(
    serve: Callable[..., Any], run_script: Callable[..., Any], tmp_path: Path
) -> None:
    lock = tmp_path / "clients.lock"
    first, last = (run_script(HOLDER, str(lock)) for _ in range(2))
    server = serve("--clients-lock", str(lock))
    first.kill()
    async with grpc.aio.insecure_channel(server.address) as channel:
        await store_at(channel).GetServerInfo(pb.GetServerInfoRequest())
    last.kill()
    assert await ended(server) == 0


async def test_a_server_whose_clients_are_gone_before_it_is_ready_ends(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    server = serve("--clients-lock", str(tmp_path / "clients.lock"))
    assert await ended(server) == 0


@pytest.mark.parametrize("port", ["99999", "-5", "x"])
async def test_a_port_that_is_none_is_refused(serve: Callable[..., Any], port: str) -> None:
    server = serve("--port", port)
    assert server.wait() == 2
    assert "is no port" in server.said or "expected one argument" in server.said


async def test_an_address_that_is_not_this_machines_is_refused_saying_so(serve: Callable[..., Any]) -> None:
    server = serve("--host", "192.0.2.1")
    assert server.wait() == 1
    assert "Cannot assign requested address" in server.said


async def test_a_link_to_a_database_that_is_served_is_refused(serve: Callable[..., Any], tmp_path: Path) -> None:
    server = serve()
    link = tmp_path / "link.db"
    link.symlink_to(server.database)
    second = serve(database=link)
    assert second.wait() == 1
    assert "is served already" in second.said
