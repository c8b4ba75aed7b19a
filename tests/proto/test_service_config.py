"""The service config that clients copy: what gRPC repeats by itself, and what it does not."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from agentlightning.cli.commands.emit import RETRIES
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.store_service_pb2_grpc import (
    StoreServiceServicer,
    StoreServiceStub,
    add_StoreServiceServicer_to_server,
)
from agentlightning_server.app import running
from agentlightning_server.config import Config
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

ROOT = Path(__file__).parents[2]
FILE = ROOT / "proto/service_config.json"
COPIES = sorted(path for path in ROOT.glob("examples/*/**/service_config.json") if "node_modules" not in path.parts)
STORE, TRACES = pb.DESCRIPTOR.services_by_name["StoreService"], trace_service_pb2.DESCRIPTOR.services_by_name
METHODS = {(STORE.full_name, method.name): method for method in STORE.methods}
METHODS |= {(TRACES["TraceService"].full_name, method.name): method for method in TRACES["TraceService"].methods}
NEVER_REPEATED = {"StreamDequeue", "BackupDatabase"}
SAFE_BY_NATURE = {
    *("HeartbeatAttempts", "ReleaseAttempts", "CompleteAttempt", "CompleteAttempts", "CancelRollouts"),
    *("UpdateRollout", "UpdateAttempt", "UpdateWorker", "DeleteRollouts", "AddSpans", "ReserveSequenceIds", "Export"),
    *("WaitRollouts", "Watch"),  # gRPC repeats no stream after its first message
}
BOUND = 20


def config_of(service: str, method: str) -> Any:
    """What holds for a call: an entry that names its method, else one that names its service."""
    entries = json.loads(FILE.read_text())["methodConfig"]
    for name in ({"service": service, "method": method}, {"service": service}):
        for entry in entries:
            if name in entry["name"]:
                return entry
    return {}


def test_what_it_names_exists() -> None:
    services = {service for service, _ in METHODS}
    names = [name for entry in json.loads(FILE.read_text())["methodConfig"] for name in entry["name"]]
    unknown = [n for n in names if n["service"] not in services]
    unknown += [n for n in names if "method" in n and (n["service"], n["method"]) not in METHODS]
    assert not unknown


@pytest.mark.parametrize(("service", "method"), METHODS, ids=lambda name: name.rpartition(".")[2])
def test_every_call_that_is_safe_to_repeat_is_repeated(service: str, method: str) -> None:
    fields = METHODS[service, method].input_type.fields_by_name
    is_read = method.startswith(("Get", "List"))
    is_safe = is_read or "request_id" in fields or method in SAFE_BY_NATURE
    assert is_safe != (method in NEVER_REPEATED), f"{method}: say here whether it may be made again, and why"
    assert ("retryPolicy" in config_of(service, method)) == is_safe
    assert config_of(service, method)["waitForReady"]


def test_agl_emit_repeats_as_it_says() -> None:
    [entry] = RETRIES["methodConfig"]
    assert entry["name"] == [{"service": STORE.full_name, "method": "AddSpans"}]
    assert entry["retryPolicy"] == config_of(STORE.full_name, "AddSpans")["retryPolicy"]


@pytest.mark.parametrize("copy", COPIES, ids=lambda path: path.relative_to(ROOT).parts[1])
def test_a_copy_is_the_same(copy: Path) -> None:
    assert copy.read_text() == FILE.read_text()


class FailingOnce(StoreServiceServicer):
    """Each of its calls is UNAVAILABLE, and answered the second time."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    async def DequeueRollouts(self, request: Any, context: Any) -> pb.DequeueRolloutsResponse:
        await self._fail_once("DequeueRollouts", context)
        return pb.DequeueRolloutsResponse()

    async def WaitRollouts(self, request: Any, context: Any) -> AsyncIterator[pb.WaitRolloutsResponse]:
        await self._fail_once("WaitRollouts", context)
        yield pb.WaitRolloutsResponse(revision=7)

    async def BackupDatabase(self, request: Any, context: Any) -> pb.BackupDatabaseResponse:
        await self._fail_once("BackupDatabase", context)
        return pb.BackupDatabaseResponse()

    async def _fail_once(self, method: str, context: Any) -> None:
        self.calls[method] += 1
        if self.calls[method] == 1:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")


@asynccontextmanager
async def serving(servicer: StoreServiceServicer) -> AsyncIterator[str]:
    server = grpc.aio.server()
    add_StoreServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def channel_to(address: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address, options=[("grpc.service_config", FILE.read_text())])


async def test_a_call_that_a_server_cannot_take_is_made_again() -> None:
    servicer = FailingOnce()
    async with serving(servicer) as address, channel_to(address) as channel:
        stub: Any = StoreServiceStub(channel)
        await stub.DequeueRollouts(pb.DequeueRolloutsRequest(request_id="a"), timeout=BOUND)
        assert [m.revision async for m in stub.WaitRollouts(pb.WaitRolloutsRequest(), timeout=BOUND)] == [7]
        assert servicer.calls == {"DequeueRollouts": 2, "WaitRollouts": 2}


async def test_one_that_is_not_safe_to_repeat_is_not() -> None:
    servicer = FailingOnce()
    async with serving(servicer) as address, channel_to(address) as channel:
        stub: Any = StoreServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError, match="not now"):
            await stub.BackupDatabase(pb.BackupDatabaseRequest(), timeout=BOUND)
        assert servicer.calls == {"BackupDatabase": 1}


async def test_a_store_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    async with running(Config(database=tmp_path / "store.db", port=0, grace=0)) as address:
        pass
    async with channel_to(address) as channel:
        stub: Any = StoreServiceStub(channel)
        call = asyncio.ensure_future(stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=BOUND))
        while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            await channel.wait_for_state_change(state)
        port = int(address.rpartition(":")[2])
        async with running(Config(database=tmp_path / "store.db", port=port, grace=0)):
            assert (await call).capabilities.watch
