"""A server in the test's own loop, with a clock that the test sets, on a real socket and a real file."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.rollout_pb2 import Assignment, Rollout, RolloutConfig
from agentlightning.v1.store_service_pb2_grpc import StoreServiceStub
from agentlightning_server.app import running
from agentlightning_server.clock import SECOND
from agentlightning_server.config import Config


class Clock:
    """Microseconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1_800_000_000 * SECOND

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


class Server:
    """A running server and a stub to it."""

    def __init__(self, stub: Any, address: str, clock: Clock) -> None:
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


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def start(tmp_path: Path, clock: Clock) -> AsyncIterator[Callable[[], Awaitable[Server]]]:
    """Starts a server on the test's one file; starting again stops the one before."""
    servers = AsyncExitStack()

    async def start_server() -> Server:
        await servers.aclose()
        config = Config(database=tmp_path / "store.db", port=0, grace=0.5)
        address = await servers.enter_async_context(running(config, clock))
        channel = await servers.enter_async_context(grpc.aio.insecure_channel(address))
        return Server(StoreServiceStub(channel), address, clock)

    yield start_server
    await servers.aclose()


@pytest.fixture
async def server(start: Callable[[], Awaitable[Server]]) -> Server:
    return await start()
