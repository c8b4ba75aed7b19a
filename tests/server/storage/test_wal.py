"""The write-ahead log stays small, whatever is read meanwhile."""

import asyncio
import os
import threading
from pathlib import Path

import pytest
from agentlightning_server.storage import wal
from agentlightning_server.storage.database import Database
from agentlightning_server.storage.transaction import Reading, Transaction

BOUND = 20
MIB = 1 << 20


async def read_without_a_gap(database: Database, enough: asyncio.Event) -> None:
    """Reads of which each ends only after the next has begun."""
    go_on, last = threading.Event(), asyncio.create_task(asyncio.sleep(0))
    while not enough.is_set():
        begun, next_go_on = threading.Event(), threading.Event()

        def look(tx: Reading, begun: threading.Event = begun, go_on: threading.Event = next_go_on) -> None:
            tx.revision()
            begun.set()
            assert go_on.wait(BOUND)

        reading = asyncio.create_task(database.read(look))
        assert await asyncio.to_thread(begun.wait, BOUND)
        go_on.set()
        await last
        go_on, last = next_go_on, reading
    go_on.set()
    await last


async def test_the_log_is_begun_anew_though_somebody_always_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal, "WAL_LIMIT", MIB)
    sizes, enough = [], asyncio.Event()
    async with Database(tmp_path / "store.db", lambda: 0, lambda notices: None) as database:
        reading = asyncio.create_task(read_without_a_gap(database, enough))
        for number in range(200):

            def write(tx: Transaction, number: int = number) -> None:
                tx.next_revision()
                tx.run("put_request", request_id=str(number), digest=b"", answer=os.urandom(60_000), expire_time=1)

            await database.write(write)
            sizes.append((tmp_path / "store.db-wal").stat().st_size)
        enough.set()
        await reading
    assert sum(sizes) / len(sizes) < 4 * MIB, "12 MB were written"
