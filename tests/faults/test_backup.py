"""Kill -9 of the server while it writes a copy: the copy is there whole or not at all, and nothing else is left."""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.store_service_pb2_grpc import StoreServiceStub
from agentlightning_server.storage.database import Database
from agentlightning_server.storage.transaction import Transaction


def fill(tx: Transaction) -> None:
    """Fifty megabytes, so that a copy takes a while."""
    for number in range(50):
        tx.run("put_request", request_id=str(number), digest=b"", answer=bytes(1_000_000), expire_time=1 << 60)


def unfinished(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if "unfinished" in file.name]


async def make_large(path: Path) -> None:
    async with Database(path, lambda: 0, lambda notices: None) as database:
        await database.write(fill)


def test_a_kill_leaves_a_whole_copy_or_none_and_the_next_start_cleans_up(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    asyncio.run(make_large(tmp_path / "store.db"))
    server = serve()
    with grpc.insecure_channel(server.address) as channel:
        stub: Any = StoreServiceStub(channel)
        copying = stub.BackupDatabase.future(pb.BackupDatabaseRequest(file_name="monday.db"))
        while not unfinished(tmp_path) and not copying.done():
            pass
        server.kill()
        copying.exception()  # waits for its end
    copy = tmp_path / "monday.db"
    if copy.exists():
        connection = sqlite3.connect(copy)
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        connection.close()
    assert serve().address
    assert unfinished(tmp_path) == []
