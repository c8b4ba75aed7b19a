"""Copies of a database that is being served: consistent, and there whole or not at all."""

import asyncio
import resource
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from agentlightning.v1.error_reason_pb2 import ErrorReason
from agentlightning_server.errors import FieldInvalidError, StoreError
from agentlightning_server.storage import backup
from agentlightning_server.storage.database import Database
from agentlightning_server.storage.transaction import Transaction

BOUND = 20
NOON = 1_800_014_400_000_000


def database_at(path: Path) -> Database:
    return Database(path, lambda: NOON, lambda notices: None)


def fill(tx: Transaction) -> None:
    """Some megabytes."""
    for number in range(5):
        tx.run("put_request", request_id=str(number), digest=b"", answer=bytes(1_000_000), expire_time=1)


def revision_of(file: Path) -> int:
    connection = sqlite3.connect(file)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        return int(connection.execute("SELECT revision FROM store").fetchone()[0])
    finally:
        connection.close()


def files(path: Path) -> set[str]:
    """What is in the folder beside the database's own files."""
    return {file.name for file in path.parent.iterdir() if not file.name.startswith(path.name)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    async with database_at(path) as database:
        yield database


class Pause:
    """Holds a copy up after it was written and before it has its name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()
        sync = backup._sync

        def wait(path: Path) -> None:
            self.reached.set()
            assert self.go_on.wait(BOUND)
            sync(path)

        monkeypatch.setattr(backup, "_sync", wait)


@pytest.fixture
def pause(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pause]:
    pause = Pause(monkeypatch)
    yield pause
    pause.go_on.set()


@contextmanager
def no_file_larger_than(limit: int) -> Iterator[None]:
    """As a full disk is: what would make a file larger fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_copy_has_everything_that_was_committed_before(path: Path, database: Database) -> None:
    for _ in range(3):
        await database.write(lambda tx: tx.next_revision())
    copy = await database.backup("monday.db")
    assert copy == path.with_name("monday.db")
    assert revision_of(copy) == 3


async def test_without_a_name_it_has_the_databases_and_the_time(path: Path, database: Database) -> None:
    assert await database.backup("") == path.with_name("store-20270115T120000Z.db")


async def test_a_copy_is_one_file(path: Path, database: Database) -> None:
    await database.backup("monday.db")
    assert files(path) == {"monday.db"}


async def test_a_copy_can_be_served(path: Path, database: Database) -> None:
    await database.write(lambda tx: tx.next_revision())
    async with database_at(await database.backup("monday.db")) as copy:
        assert await copy.write(lambda tx: tx.next_revision()) == 2


async def test_while_one_is_written_others_write_and_read(database: Database, pause: Pause) -> None:
    copying = asyncio.create_task(database.backup("monday.db"))
    assert await asyncio.to_thread(pause.reached.wait, BOUND)
    for revision in range(1, 11):
        await database.write(lambda tx: tx.next_revision())
        assert await database.read(lambda tx: tx.revision()) == revision
    assert not copying.done()
    pause.go_on.set()
    assert revision_of(await copying) == 0


async def test_a_second_one_waits_for_the_first(database: Database, pause: Pause) -> None:
    first = asyncio.create_task(database.backup("first.db"))
    assert await asyncio.to_thread(pause.reached.wait, BOUND)
    second = asyncio.create_task(database.backup("second.db"))
    await database.write(lambda tx: tx.next_revision())
    pause.go_on.set()
    assert revision_of(await first) == 0
    assert revision_of(await second) == 1


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal", ".lock"])
async def test_the_names_of_the_database_itself_are_taken(path: Path, database: Database, suffix: str) -> None:
    with pytest.raises(FieldInvalidError, match="file_name"):
        await database.backup(f"store.db{suffix}")


async def test_a_file_that_is_there_is_not_written_over(path: Path, database: Database) -> None:
    path.with_name("monday.db").write_text("precious")
    with pytest.raises(FieldInvalidError, match=r"monday\.db"):
        await database.backup("monday.db")
    assert path.with_name("monday.db").read_text() == "precious"


async def test_a_file_that_comes_meanwhile_is_not_written_over(path: Path, database: Database, pause: Pause) -> None:
    copying = asyncio.create_task(database.backup("monday.db"))
    assert await asyncio.to_thread(pause.reached.wait, BOUND)
    path.with_name("monday.db").write_text("precious")
    pause.go_on.set()
    with pytest.raises(FieldInvalidError, match=r"monday\.db"):
        await copying
    assert path.with_name("monday.db").read_text() == "precious"
    assert files(path) == {"monday.db"}


async def test_a_disk_without_room_is_told_and_nothing_is_left(path: Path, database: Database) -> None:
    await database.write(fill)
    with no_file_larger_than(1_000_000), pytest.raises(StoreError, match=r"monday\.db cannot be written") as refusal:
        await database.backup("monday.db")
    assert refusal.value.reason == ErrorReason.ERROR_REASON_STORAGE_UNAVAILABLE
    assert files(path) == set()


async def test_with_room_again_a_copy_is_written(database: Database) -> None:
    await database.write(fill)
    with no_file_larger_than(1_000_000), pytest.raises(StoreError):
        await database.backup("monday.db")
    assert revision_of(await database.backup("monday.db")) == 0


async def test_a_caller_who_goes_away_leaves_nothing_unfinished(path: Path, database: Database, pause: Pause) -> None:
    copying = asyncio.create_task(database.backup("monday.db"))
    assert await asyncio.to_thread(pause.reached.wait, BOUND)
    copying.cancel()
    pause.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await copying
    assert files(path) <= {"monday.db"}


async def test_what_a_kill_leaves_is_removed_by_the_next_start(path: Path) -> None:
    async with database_at(path) as database:
        left = database._backups._unfinished(path.with_name("monday.db"))
    left.write_bytes(b"half of it")
    path.with_name(".other.db.1.unfinished").write_text("of another database in the folder")
    async with database_at(path):
        assert files(path) == {".other.db.1.unfinished"}


async def test_a_server_that_stops_waits_for_the_copy(path: Path, pause: Pause) -> None:
    async with database_at(path) as database:
        copying = asyncio.create_task(database.backup("monday.db"))
        assert await asyncio.to_thread(pause.reached.wait, BOUND)
        pause.go_on.set()
    assert await copying == path.with_name("monday.db")


async def test_while_a_copy_is_written_commits_do_not_wait_for_its_read_to_end(
    path: Path, database: Database, pause: Pause, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log grows instead, and is begun anew afterwards."""
    asked: list[Any] = []

    async def keep_short() -> None:
        asked.append(None)

    monkeypatch.setattr(database._wal, "keep_short", keep_short)
    copying = asyncio.create_task(database.backup("monday.db"))
    assert await asyncio.to_thread(pause.reached.wait, BOUND)
    await database.write(lambda tx: tx.next_revision())
    assert asked == []
    pause.go_on.set()
    await copying
    await database.write(lambda tx: tx.next_revision())
    await database.write(lambda tx: tx.next_revision())
    assert asked
