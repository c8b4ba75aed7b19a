"""A store's server that goes by somebody else's clock: each line that it reads is the time, in microseconds since 1970.

Runs as a process (`python -m agentlightning.testing.clocked_server DATABASE`), and alone in the SDK imports the server.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import grpc
from agentlightning_server.app import running
from agentlightning_server.config import Config

from agentlightning.testing.clock import FakeClock
from agentlightning.v1.store_service_pb2 import ListWorkersRequest
from agentlightning.v1.store_service_pb2_grpc import StoreServiceStub

if TYPE_CHECKING:
    from agentlightning.v1.store_service_pb2_grpc import StoreServiceAsyncStub


async def serve(database: Path) -> None:
    """Serve until there are no more lines: say the address after the first, and after each other that it is done."""
    clock = FakeClock()
    async with _lines_of_stdin() as lines:
        clock.now = int(await lines.readline())
        config = Config(database, port=0, grace=0)
        async with running(config, clock) as address, grpc.aio.insecure_channel(address) as channel:
            stub = cast("StoreServiceAsyncStub", StoreServiceStub(channel))
            print(address, flush=True)
            async for line in lines:
                clock.now = int(line)
                # Whatever is read, what is due is done first.
                await stub.ListWorkers(ListWorkersRequest(page_size=1))
                print(flush=True)


@asynccontextmanager
async def _lines_of_stdin() -> AsyncIterator[asyncio.StreamReader]:
    lines = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    try:
        yield lines
    finally:
        transport.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
