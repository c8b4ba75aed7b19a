"""A dispatcher on a real file whose writer can be kept busy, and what is done to its rollouts."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from agentlightning.v1.rollout_pb2 import Rollout
from agentlightning_server.config import Keep
from agentlightning_server.dispatch.dispatcher import Dispatcher
from agentlightning_server.storage import attempts, deletions, rollouts
from agentlightning_server.storage.transaction import Transaction

BOUND = 10


class Store:
    """A dispatcher, how often it was read, and operations on its rollouts."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        self.reads = 0
        read = dispatcher.database.read

        async def counted(operation: Callable[[Any], Any]) -> Any:
            self.reads += 1
            return await read(operation)

        dispatcher.database.read = counted  # type: ignore[method-assign]

    async def enqueue(self, count: int = 1, input_json: str = "1", **fields: Any) -> list[str]:
        new = [Rollout(input_json=input_json, **fields) for _ in range(count)]
        enqueued = await self.dispatcher.write(lambda tx: rollouts.enqueue(tx, new))
        return [rollout.rollout_id for rollout in enqueued]

    async def enqueue_tasks(self, *tasks: str) -> list[Rollout]:
        new = [Rollout(input_json=task) for task in tasks or ("null",)]
        return await self.dispatcher.write(lambda tx: rollouts.enqueue(tx, new))

    async def cancel(self, *rollout_ids: str) -> None:
        def cancel(tx: Transaction) -> None:
            for rollout_id in rollout_ids:
                attempts.cancel(tx, rollout_id)

        await self.dispatcher.write(cancel)

    async def delete(self, *rollout_ids: str) -> None:
        """End rollouts and delete them, all in one commit."""

        def delete(tx: Transaction) -> None:
            for rollout_id in rollout_ids:
                attempts.cancel(tx, rollout_id)
            deletions.delete_named(tx, rollout_ids, run_id="", ended_for=None)

        await self.dispatcher.write(delete)

    async def forget_deletions(self) -> None:
        def forget(tx: Transaction) -> None:
            [last] = tx.connection.execute("SELECT max(revision) FROM tombstones").fetchone()
            tx.connection.execute("DELETE FROM tombstones")
            tx.connection.execute("UPDATE store SET forgotten_revision = ?", (last,))

        await self.dispatcher.write(forget)

    async def revision(self) -> int:
        return await self.dispatcher.read(lambda tx: tx.revision())

    async def looking(self) -> None:
        """Whoever looks for work now has asked the writer."""
        await steps()

    @asynccontextmanager
    async def busy(self) -> AsyncIterator[None]:
        """The writer is inside a transaction while the block runs, so that what is asked for in it forms one batch."""
        begun, go_on = threading.Event(), threading.Event()

        def wait(tx: Transaction) -> None:
            begun.set()
            assert go_on.wait(BOUND)

        waiting = asyncio.create_task(self.dispatcher.write(wait))
        assert await asyncio.to_thread(begun.wait, BOUND)
        try:
            yield
        finally:
            go_on.set()
            await waiting

    async def looked(self) -> None:
        """Whoever looks for work now has looked, and stands in line if there was none."""
        await steps()
        await self.dispatcher.write(lambda tx: None)
        await steps()


async def steps() -> None:
    """Every task runs up to its next real wait."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def store(tmp_path: Path, clock: Callable[[], int]) -> AsyncIterator[Store]:
    async with Dispatcher.running(tmp_path / "store.db", clock, Keep()) as dispatcher:
        yield Store(dispatcher)
