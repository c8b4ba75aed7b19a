"""The database file: one owner, one schema, one connection that writes, and readers that see the last commit."""

import asyncio
import json
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from agentlightning.v1.worker_pb2 import WORKER_STATUS_UNKNOWN, Worker
from agentlightning_server.storage import attempts, workers
from agentlightning_server.storage import database as database_module
from agentlightning_server.storage.database import APPLICATION_ID, Database, DatabaseError
from agentlightning_server.storage.queries import migrations
from agentlightning_server.storage.transaction import Notices, Reading, Transaction

BOUND = 20


def database_at(path: Path) -> Database:
    def ignore(notices: Notices) -> None:
        pass

    return Database(path, lambda: 0, ignore)


def pragma(name: str) -> Callable[[Reading], object]:
    """An operation that reads a setting of the connection it runs on."""
    return lambda tx: tx.connection.execute(f"PRAGMA {name}").fetchone()[0]


def left_since(before: set[threading.Thread]) -> list[threading.Thread]:
    """The threads that were started since and do not end; the event loop's own pool is none of ours."""
    threads = [thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")]
    started = [thread for thread in threads if thread not in before]
    for thread in started:
        thread.join(5)
    return [thread for thread in started if thread.is_alive()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    async with database_at(path) as database:
        yield database


async def test_a_fresh_file_gets_the_newest_schema(database: Database) -> None:
    assert await database.read(pragma("user_version")) == len(migrations())


async def test_folders_that_are_missing_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "store.db"
    async with database_at(path):
        assert path.exists()


async def test_a_file_of_an_earlier_schema_is_brought_up_to_date(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.executescript(f"{migrations()[0]}; INSERT INTO workers (worker_id, revision) VALUES ('w', 1);")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    async with database_at(path) as database:
        assert await database.read(lambda tx: workers.get(tx, "w")) == Worker(
            worker_id="w", status=WORKER_STATUS_UNKNOWN, revision=1
        )
        assert await database.read(pragma("user_version")) == len(migrations())


async def test_a_file_written_by_a_newer_server_is_refused_by_name(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(migrations()) + 7}")
    connection.close()
    with pytest.raises(DatabaseError, match=rf"{path}.*version {len(migrations()) + 7}.*newer"):
        async with database_at(path):
            pass


async def test_the_database_of_another_program_is_refused_by_name(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    with pytest.raises(DatabaseError, match=f"{path}.*another program.*--db"):
        async with database_at(path):
            pass


async def test_the_database_of_another_program_is_left_as_it_was(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(DatabaseError):
        async with database_at(path):
            pass
    assert path.read_bytes() == before


async def test_an_empty_file_is_taken_for_a_new_one(path: Path) -> None:
    path.touch()
    async with database_at(path) as database:
        assert await database.read(pragma("user_version")) == len(migrations())


async def test_a_migration_that_stops_in_the_middle_leaves_the_file_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with database_at(path) as database:
        await database.write(lambda tx: tx.next_revision())
    broken = "CREATE TABLE more (id INTEGER); UPDATE store SET revision = 99; SELECT no_such_function()"
    monkeypatch.setattr(database_module, "migrations", lambda: [*migrations(), broken])
    with pytest.raises(DatabaseError, match=f"{path}.*no_such_function"):
        async with database_at(path):
            pass
    monkeypatch.undo()
    async with database_at(path) as database:
        assert await database.read(pragma("user_version")) == len(migrations())
        assert await database.read(lambda tx: tx.revision()) == 1


async def test_the_first_migration_that_stops_in_the_middle_leaves_an_empty_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "migrations", lambda: [f"{migrations()[0]}; SELECT no_such_function()"])
    with pytest.raises(DatabaseError):
        async with database_at(path):
            pass
    monkeypatch.undo()
    async with database_at(path) as database:
        assert await database.read(lambda tx: tx.revision()) == 0


async def test_a_vacuum_takes_out_what_nothing_is_in(path: Path, database: Database) -> None:
    def fill(tx: Transaction) -> None:
        tx.connection.execute("CREATE TABLE ballast (bytes BLOB)")
        tx.connection.execute("INSERT INTO ballast VALUES (zeroblob(2000000))")

    await database.write(fill)
    await database.write(lambda tx: tx.connection.execute("DROP TABLE ballast"))
    await database.vacuum()
    assert path.stat().st_size < 500_000
    assert await database.read(pragma("integrity_check")) == "ok"


async def test_a_file_that_is_no_database_is_refused_by_name(path: Path) -> None:
    path.write_text("Dear diary, today I became a text file.\n" * 100)
    with pytest.raises(DatabaseError, match=f"{path}.*not a database"):
        async with database_at(path):
            pass


async def test_a_refused_file_leaves_no_thread_behind(path: Path) -> None:
    path.write_text("Dear diary, today I became a text file.\n" * 100)
    before = set(threading.enumerate())
    with pytest.raises(DatabaseError):
        async with database_at(path):
            pass
    assert left_since(before) == []


async def test_a_refused_file_is_free_for_the_next(path: Path) -> None:
    path.write_text("Dear diary, today I became a text file.\n" * 100)
    with pytest.raises(DatabaseError):
        async with database_at(path):
            pass
    path.unlink()
    async with database_at(path) as database:
        assert await database.read(pragma("user_version")) == len(migrations())


async def test_a_second_one_on_the_same_file_is_refused_naming_the_holder(path: Path, database: Database) -> None:
    database.announce(address="127.0.0.1:4747", pid=os.getpid())
    with pytest.raises(DatabaseError) as refusal:
        async with database_at(path):
            pass
    for what in (str(path), "127.0.0.1:4747", str(os.getpid())):
        assert what in str(refusal.value)


async def test_being_refused_does_not_disturb_the_holder(path: Path, database: Database) -> None:
    database.announce(address="127.0.0.1:4747", pid=1)
    with pytest.raises(DatabaseError):
        async with database_at(path):
            pass
    await database.write(lambda tx: tx.next_revision())
    assert json.loads(path.with_name("store.db.lock").read_text()) == {"address": "127.0.0.1:4747", "pid": 1}


async def test_a_file_that_was_closed_can_be_opened_again(path: Path) -> None:
    for revision in (1, 2):
        async with database_at(path) as database:
            assert await database.write(lambda tx: tx.next_revision()) == revision


async def test_a_closed_file_says_of_nobody_that_they_hold_it(path: Path) -> None:
    async with database_at(path) as database:
        database.announce(address="127.0.0.1:4747", pid=1)
    assert path.with_name("store.db.lock").read_text() == ""


async def test_closing_leaves_no_thread_behind(path: Path) -> None:
    before = set(threading.enumerate())
    async with database_at(path):
        pass
    assert left_since(before) == []


@pytest.mark.parametrize(
    ("setting", "value"), [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("mmap_size", 0)]
)
async def test_the_writer_keeps_what_it_acknowledged(database: Database, setting: str, value: object) -> None:
    """WAL, and `synchronous=FULL`, which is 2: a commit is on disk when it returns."""
    assert await database.write(pragma(setting)) == value


async def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await database.read(lambda tx: tx.connection.execute("UPDATE store SET revision = 9"))
    assert await database.read(lambda tx: tx.revision()) == 0


async def test_a_reader_sees_the_last_commit_and_no_open_transaction(database: Database) -> None:
    written, go_on = threading.Event(), threading.Event()

    def write(tx: Transaction) -> None:
        tx.next_revision()
        written.set()
        assert go_on.wait(BOUND)

    writing = asyncio.create_task(database.write(write))
    assert await asyncio.to_thread(written.wait, BOUND)
    assert await database.read(lambda tx: tx.revision()) == 0
    go_on.set()
    await writing
    assert await database.read(lambda tx: tx.revision()) == 1


async def test_a_read_sees_one_moment_whatever_is_committed_meanwhile(database: Database) -> None:
    begun, committed = threading.Event(), threading.Event()

    def look_twice(tx: Reading) -> tuple[int, int]:
        first = tx.revision()
        begun.set()
        assert committed.wait(BOUND)
        return first, tx.revision()

    reading = asyncio.create_task(database.read(look_twice))
    assert await asyncio.to_thread(begun.wait, BOUND)
    await database.write(lambda tx: tx.next_revision())
    committed.set()
    assert await reading == (0, 0)
    assert await database.read(lambda tx: tx.revision()) == 1


async def test_many_more_readers_than_connections_all_get_an_answer(database: Database) -> None:
    assert await asyncio.gather(*(database.read(lambda tx: tx.revision()) for _ in range(200))) == [0] * 200


async def test_a_cancelled_reader_takes_no_connection_with_it(database: Database) -> None:
    for _ in range(10):
        go_on = threading.Event()
        begun = threading.Event()

        def look(tx: Reading, begun: threading.Event = begun, go_on: threading.Event = go_on) -> None:
            begun.set()
            assert go_on.wait(BOUND)

        reading = asyncio.create_task(database.read(look))
        assert await asyncio.to_thread(begun.wait, BOUND)
        reading.cancel()
        await asyncio.wait([reading])
        go_on.set()
    async with asyncio.timeout(BOUND):
        assert await database.read(lambda tx: tx.revision()) == 0


async def test_the_file_is_sound(database: Database) -> None:
    await asyncio.gather(*(database.write(lambda tx: tx.next_revision()) for _ in range(50)))
    assert await database.read(pragma("integrity_check")) == "ok"


async def test_a_rollout_that_goes_takes_its_attempts_with_it(database: Database) -> None:
    def write(tx: Transaction) -> None:
        tx.connection.execute(
            "INSERT INTO rollouts (rollout_id, run_id, queue, priority, queue_position, status, mode, input_json, "
            "resources_id, resources_version, max_attempts, retry_condition, max_redeliveries, metadata_json, "
            "labels_json, create_time, revision) "
            "VALUES ('ro', '', 'q', 0, 0, 'queuing', 0, 'null', '', 0, 1, '', 3, '', '{}', 0, 0)"
        )
        attempts.start(tx, "ro", "w", lease_duration=1)
        tx.connection.execute("DELETE FROM rollouts")

    await database.write(write)
    assert await database.read(lambda tx: tx.all("live_attempts")) == []
