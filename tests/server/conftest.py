"""A server in the test's own loop or on a thread, with a clock that the test sets, on a real socket and a real file."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import grpc
import pytest
from agentlightning.testing import FakeClock
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.rollout_pb2 import Assignment, Rollout, RolloutConfig
from agentlightning.v1.store_service_pb2_grpc import StoreServiceStub
from agentlightning_server.app import running
from agentlightning_server.config import Config

T = TypeVar("T")
BOUND = 10.0
START = 1_800_000_000


class Server:
    """A running server and a stub to it."""

    def __init__(self, stub: Any, address: str, clock: FakeClock) -> None:
        self.stub = stub
        self.address = address
        self.clock = clock

    async def enqueue(self, *tasks: str, config: RolloutConfig | None = None, **fields: Any) -> list[Rollout]:
        rollouts = [Rollout(input_json=task, config=config, **fields) for task in tasks or ("null",)]
        return list((await self.stub.EnqueueRollouts(pb.EnqueueRolloutsRequest(rollouts=rollouts))).rollouts)

    async def dequeue(self, **fields: Any) -> Assignment | None:
        answer = await self.stub.DequeueRollouts(pb.DequeueRolloutsRequest(**fields))
        return answer.assignments[0] if answer.assignments else None

    async def get(self, rollout_id: str) -> Rollout:
        return (await self.stub.GetRollout(pb.GetRolloutRequest(rollout_id=rollout_id))).rollout


class BoundedStub:
    """A stub whose calls end in time, whatever becomes of the server."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub: Any = StoreServiceStub(channel)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(getattr(self._stub, name), timeout=BOUND)


class ServerOnThread:
    """A server on a thread of its own, for tests that call instead of awaiting: those that hypothesis drives.

    Attributes:
        database: Its file, which goes when it is closed.
        stubs: One for each client; every client has a connection of its own.
    """

    def __init__(self, clients: int = 1) -> None:
        self.clock = FakeClock(START)
        self._clients = clients
        self._folder = TemporaryDirectory()
        self.database = Path(self._folder.name) / "store.db"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.start()

    def start(self) -> None:
        """Serve the file."""
        self._server = AsyncExitStack()
        config = Config(database=self.database, port=0, grace=0.5)
        address = self._wait(self._server.enter_async_context(running(config, self.clock)))
        self._channels = [grpc.insecure_channel(address) for _ in range(self._clients)]
        self.stubs = [BoundedStub(channel) for channel in self._channels]

    def stop(self) -> None:
        """Stop serving as SIGTERM does."""
        for channel in self._channels:
            channel.close()
        self._wait(self._server.aclose())

    def close(self) -> None:
        try:
            self.stop()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(BOUND)
            self._loop.close()
            self._folder.cleanup()

    @property
    def channel(self) -> grpc.Channel:
        return self._channels[0]

    def _wait(self, task: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(task, self._loop).result(BOUND)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START)


@pytest.fixture
async def start(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Callable[..., Awaitable[Server]]]:
    """Starts a server on the test's one file, or set up otherwise; starting again stops the one before."""
    servers = AsyncExitStack()

    async def start_server(**settings: Any) -> Server:
        await servers.aclose()
        config = Config(**{"database": tmp_path / "store.db", "port": 0, "grace": 0.5} | settings)
        address = await servers.enter_async_context(running(config, clock))
        channel = await servers.enter_async_context(grpc.aio.insecure_channel(address))
        return Server(StoreServiceStub(channel), address, clock)

    yield start_server
    await servers.aclose()


@pytest.fixture
async def server(start: Callable[[], Awaitable[Server]]) -> Server:
    return await start()


@pytest.fixture(scope="session")
def serve_on_thread() -> Callable[..., ServerOnThread]:
    """Starts a server on a fresh file; whoever starts it closes it."""
    return ServerOnThread
