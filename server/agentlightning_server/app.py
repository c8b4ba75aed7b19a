"""Wires a server together, runs it until it is told to stop, and takes it down in order."""

import asyncio
import errno
import fcntl
import logging
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
from agentlightning.v1 import store_service_pb2, store_service_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from agentlightning_server.clock import Clock, steady_clock
from agentlightning_server.config import Config
from agentlightning_server.dispatch.dispatcher import Dispatcher
from agentlightning_server.rpc.interceptor import CallInterceptor
from agentlightning_server.rpc.reflection import SERVICE_NAME as REFLECTION
from agentlightning_server.rpc.reflection import add_reflection_to_server
from agentlightning_server.rpc.store_service import StoreService
from agentlightning_server.rpc.trace_service import TraceService

_log = logging.getLogger(__name__)
_SERVICES = (
    store_service_pb2.DESCRIPTOR.services_by_name["StoreService"].full_name,
    trace_service_pb2.DESCRIPTOR.services_by_name["TraceService"].full_name,
    health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
    REFLECTION,
)


class StartError(Exception):
    """The server cannot start."""


async def serve(config: Config, on_ready: Callable[[str], None] = lambda address: None) -> None:
    """Serve until SIGINT, SIGTERM or, where that was asked for, the departure of the last client.

    Args:
        config: How to run.
        on_ready: Told the address once calls are answered.

    Raises:
        StartError: The port is taken.
        DatabaseError: The database cannot be opened.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with running(config) as address:
        on_ready(address)
        if config.clients_lock is not None:
            await _first(stop.wait(), _last_client_gone(config.clients_lock))
        else:
            await stop.wait()


@asynccontextmanager
async def running(config: Config, clock: Clock | None = None) -> AsyncIterator[str]:
    """A server that answers calls while the block runs; yields its address."""
    clock = clock or steady_clock()
    async with Dispatcher.running(config.database, clock, config.keep) as dispatcher:
        if config.vacuum:
            await dispatcher.database.vacuum()
        server = _grpc_server(config)
        checks = health.HealthServicer()
        store = StoreService(dispatcher, config.limits, version("agl-protocol"), clock)
        store_service_pb2_grpc.add_StoreServiceServicer_to_server(store, server)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(TraceService(dispatcher), server)
        health_pb2_grpc.add_HealthServicer_to_server(checks, server)
        add_reflection_to_server(_SERVICES, server)
        address = _bind(server, config)
        await server.start()
        for service in ("", *_SERVICES):
            await checks.set(service, health_pb2.HealthCheckResponse.SERVING)
        dispatcher.database.announce(address=address, pid=os.getpid())
        try:
            yield address
        finally:
            await checks.enter_graceful_shutdown()
            dispatcher.drain()
            await server.stop(config.grace)


def _grpc_server(config: Config) -> grpc.aio.Server:
    return grpc.aio.server(
        interceptors=[CallInterceptor()],
        options=[
            # Without this a second server binds the same port in silence and takes half of the calls.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", config.limits.max_message_bytes),
            # What is committed is answered, whatever the size: lists, streams and claims see to it that it is small.
            ("grpc.max_send_message_length", -1),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
            ("grpc.http2.max_pings_without_data", 0),
        ],
    )


def _bind(server: grpc.aio.Server, config: Config) -> str:
    address = _address(config, config.port)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        if (obstacle := _obstacle(config)) is not None:
            raise StartError(f"cannot listen on {address}: {obstacle}; give an address of this machine") from error
        raise StartError(
            f"cannot listen on {address}: the port is taken{_holder(config)}; "
            "stop what holds it, or choose another with --port (0 for any free one)"
        ) from error
    return _address(config, port)


def _address(config: Config, port: int) -> str:
    return f"[{config.host}]:{port}" if ":" in config.host else f"{config.host}:{port}"


def _obstacle(config: Config) -> OSError | None:
    """Why nobody could listen there, other than that somebody does: gRPC does not say."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(where)
    except OSError as error:
        return None if error.errno == errno.EADDRINUSE else error
    return None


def _holder(config: Config) -> str:
    """What answers on the port, when it is one of ours."""
    try:
        with grpc.insecure_channel(_address(config, config.port)) as channel:
            info = store_service_pb2_grpc.StoreServiceStub(channel).GetServerInfo(
                store_service_pb2.GetServerInfoRequest(), timeout=1
            )
    except grpc.RpcError:
        return " by something that is not a store"
    return f" by a store (version {info.version}) that serves {info.database_path!r}"


async def _first(*awaitables: Coroutine[Any, Any, object]) -> None:
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def _last_client_gone(lock: Path) -> None:
    """Wait until nobody holds a shared lock on the file: the kernel drops those of the dead, so no one is missed."""
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()

    def take() -> None:
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(file, fcntl.LOCK_EX)  # kept until this process ends: a new client waits for its own server
        loop.call_soon_threadsafe(gone.set)

    threading.Thread(target=take, name="last-client", daemon=True).start()
    await gone.wait()
    _log.info("the last client is gone")
