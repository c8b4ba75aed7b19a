"""Whether this machine reaches a store, and whether the two understand each other: from its name to its contract."""

import asyncio
import os
import socket
import statistics
import time
from collections.abc import AsyncIterator, Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final
from urllib.parse import urlsplit

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from packaging.version import InvalidVersion, Version

from agentlightning.address import parse_address
from agentlightning.cli.checks.finding import Finding
from agentlightning.cli.checks.packages import DISTRIBUTION
from agentlightning.cli.facts import server
from agentlightning.cli.show.text import duration
from agentlightning.errors import StoreError
from agentlightning.store import LightningStoreClient
from agentlightning.store.connection import connection_to, run
from agentlightning.store.convert import seconds
from agentlightning.v1 import (
    attempt_pb2,
    error_reason_pb2,
    resources_pb2,
    rollout_pb2,
    run_pb2,
    span_pb2,
    store_service_pb2,
    worker_pb2,
)

_CONTRACT: Final[tuple[Any, ...]] = (
    *(attempt_pb2, error_reason_pb2, resources_pb2, rollout_pb2),
    *(run_pb2, span_pb2, store_service_pb2, worker_pb2),
)
_SERVICE: Final = store_service_pb2.DESCRIPTOR.services_by_name["StoreService"].full_name
_SECONDS = 5.0
_CALLS, _SLOW, _APART = 5, 0.25, 5.0


class UnreachableError(Exception):
    """There is no going on: `finding` says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.what)
        self.finding = finding


async def reach(client: LightningStoreClient) -> AsyncIterator[Finding]:
    """Go to a store step by step.

    Raises:
        UnreachableError: A step fails without which the next cannot be made.
    """
    target, secure = parse_address(client.server_address)
    parts = urlsplit(f"//{target}")
    yield await _resolved(str(parts.hostname), parts.port or 0)
    yield await _open(str(parts.hostname), parts.port or 0)
    yield await _healthy(client.server_address, secure=secure)
    try:
        yield await _version(client)
        yield await _contract(client.server_address)
        for finding in await _times(client):
            yield finding
    except StoreError as error:
        raise UnreachableError(Finding("store", "problem", str(error), "look into the server's log")) from None


async def _resolved(host: str, port: int) -> Finding:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        way_out = "check the name; in a container, the network it is in; or name the store by its IP address"
        raise UnreachableError(Finding("name", "problem", f"{host} is not known here: {error}", way_out)) from None
    addresses = ", ".join(sorted({str(entry[4][0]) for entry in found}))
    return Finding("name", "ok", f"{host} is {addresses}")


async def _open(host: str, port: int) -> Finding:
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        what, way_out = f"port {port} of {host} does not answer", "is a firewall or a security group between?"
        raise UnreachableError(Finding("port", "problem", what, way_out)) from None
    except OSError as error:
        what = f"port {port} of {host} is closed: {os.strerror(error.errno) if error.errno else error}"
        way_out = f"start `agl store --host 0.0.0.0 --port {port}` there; without --host it listens on loopback only"
        raise UnreachableError(Finding("port", "problem", what, way_out)) from None
    writer.close()
    await writer.wait_closed()
    return Finding("port", "ok", f"port {port} is open")


async def _healthy(address: str, *, secure: bool) -> Finding:
    async def ask() -> Any:
        stub: Any = health_pb2_grpc.HealthStub(connection_to(address).channel)
        return await stub.Check(health_pb2.HealthCheckRequest(service=_SERVICE), timeout=_SECONDS)

    try:
        status = (await run(ask())).status
    except grpc.aio.AioRpcError as error:
        what = f"what answers there is no store: {error.code().name} {error.details()}"
        scheme = "if it speaks TLS, grpcs://HOST:PORT" if not secure else "if it speaks no TLS, grpc://HOST:PORT"
        way_out = f"is it the right port? {scheme}{_by_proxy()}"
        raise UnreachableError(Finding("health", "problem", what, way_out)) from None
    word = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
    if status != health_pb2.HealthCheckResponse.SERVING:
        way_out = "it is starting or going: try again"
        raise UnreachableError(Finding("health", "problem", f"the store says {word}", way_out))
    return Finding("health", "ok", "the store says SERVING")


def _by_proxy() -> str:
    """That gRPC goes by a proxy, which few proxies serve: the steps before did not."""
    names = [name for name in ("grpc_proxy", "https_proxy", "http_proxy") if os.environ.get(name)]
    return f"; gRPC goes by {names[0]}, unless no_proxy names the host" if names else ""


async def _version(client: LightningStoreClient) -> Finding:
    info = await server.server_info(client)
    try:
        own = version(DISTRIBUTION)
    except PackageNotFoundError:
        own = "unknown"
    what = f"the store is version {info.version}, this is {own}; {info.durability}; {info.database_path}"
    if info.version == own or _is_earlier(own, info.version):
        return Finding("version", "ok", what)
    return Finding("version", "warning", what, "install this version, or a later one, where the store runs")


async def _contract(address: str) -> Finding:
    """Whether its messages and calls have all that this side was made with, as its reflection tells them."""

    async def ask() -> dict[str, bytes]:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(connection_to(address).channel)
        names = [module.DESCRIPTOR.name for module in _CONTRACT]
        requests = [reflection_pb2.ServerReflectionRequest(file_by_filename=name) for name in names]
        answers = stub.ServerReflectionInfo(iter(requests), timeout=_SECONDS)
        files = [answer.file_descriptor_response.file_descriptor_proto async for answer in answers]
        return {name: b"".join(found[:1]) for name, found in zip(names, files, strict=True)}

    try:
        theirs = await run(ask())
    except grpc.aio.AioRpcError as error:
        return Finding("contract", "warning", f"its reflection does not answer: {error.code().name}", "is it of ours?")
    differing = [name for name in theirs if _parsed(theirs[name]) != _own(name)]
    if not differing:
        return Finding("contract", "ok", f"both sides have the same {len(theirs)} files of the contract")
    lacking = [name for name in differing if not _has(_parsed(theirs[name]), _own(name))]
    if not lacking:
        return Finding("contract", "ok", f"the store has all that this side knows, and more in {_short(differing)}")
    way_out = "install this version, or a later one, where the store runs"
    return Finding("contract", "warning", f"the store lacks what this side has in {_short(lacking)}", way_out)


def _is_earlier(own: str, other: str) -> bool:
    try:
        return Version(own) < Version(other)
    except InvalidVersion:
        return False


def _has(theirs: Any, ours: Any) -> bool:
    """Whether all that is in a part of our contract is in theirs, be there more or not."""
    if isinstance(ours, Message):
        return all(_has(getattr(theirs, field.name), value) for field, value in ours.ListFields())
    if isinstance(ours, (str, bytes, int, float)):
        return bool(theirs == ours)
    return all(any(_has(one, wanted) for one in theirs) for wanted in ours)


def _short(names: Iterable[str]) -> str:
    return ", ".join(name.rpartition("/")[2] for name in names)


def _own(name: str) -> FileDescriptorProto:
    return _parsed(next(m.DESCRIPTOR.serialized_pb for m in _CONTRACT if m.DESCRIPTOR.name == name))


def _parsed(file: bytes) -> FileDescriptorProto:
    return FileDescriptorProto.FromString(file)


async def _times(client: LightningStoreClient) -> list[Finding]:
    trips, differences = [], []
    for _ in range(_CALLS):
        sent, begun = time.time(), time.perf_counter()
        info = await server.server_info(client)
        trips.append(time.perf_counter() - begun)
        differences.append(seconds(info.current_time) - sent - trips[-1] / 2)
    trip, apart = statistics.median(trips), statistics.median(differences)
    return [_round_trip(trip), _clock(apart, trip)]


def _round_trip(trip: float) -> Finding:
    if trip < _SLOW:
        return Finding("round trip", "ok", duration(trip))
    way_out = "run several rollouts at once, and the store nearer to its runners"
    return Finding("round trip", "warning", duration(trip), way_out)


def _clock(apart: float, trip: float) -> Finding:
    if abs(apart) < _APART:
        return Finding("clock", "ok", f"within {duration(abs(apart) + trip)} of the store's")
    what = f"the store's is {duration(abs(apart))} {'ahead of' if apart > 0 else 'behind'} this machine's"
    way_out = "keep both by NTP: leases are safe, but spans and rollouts do not lie beside each other in time"
    return Finding("clock", "warning", what, way_out)
