"""Group commit: what callers may rely on when their operations share a transaction, a thread and a sync."""

import asyncio
import sqlite3
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from agentlightning.v1.error_reason_pb2 import ErrorReason
from agentlightning_server.errors import StoreError, draining
from agentlightning_server.storage.queries import migrations
from agentlightning_server.storage.transaction import Notices, Transaction
from agentlightning_server.storage.writer import Writer, run_on_thread
from hypothesis import given, settings
from hypothesis import strategies as st

BOUND = 10


class Notebook:
    """A writer on a real file with one table, all that it was told to tell, and every statement it executed."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self.connection = connection
        self.told: list[Notices] = []
        self.statements: list[str] = []
        self.writer = Writer(connection, lambda: 0, self.told.append)

    @property
    def commits(self) -> int:
        return self.statements.count("COMMIT")

    async def notes(self) -> list[str]:
        rows = await self.connection.execute_fetchall("SELECT text FROM notes ORDER BY rowid")
        return [row[0] for row in rows]

    @asynccontextmanager
    async def busy(self) -> AsyncIterator[None]:
        """The writer is inside a transaction while the block runs, so that what is submitted in it forms one batch."""
        begun, go_on = threading.Event(), threading.Event()

        def wait(tx: Transaction) -> None:
            begun.set()
            assert go_on.wait(BOUND)

        waiting = asyncio.create_task(self.writer.submit(wait))
        assert await asyncio.to_thread(begun.wait, BOUND)
        try:
            yield
        finally:
            go_on.set()
            await waiting


def note(*texts: str, then: Exception | None = None) -> Callable[[Transaction], str]:
    """An operation that writes these notes one by one, and then perhaps raises."""

    def write(tx: Transaction) -> str:
        for text in texts:
            tx.connection.execute("INSERT INTO notes (text) VALUES (?)", (text,))
            tx.notices.ended.append(text)
        if then is not None:
            raise then
        return " ".join(texts)

    return write


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Notebook]:
    async with aiosqlite.connect(folder / "notes.db", isolation_level=None) as connection:
        await connection.executescript(f"{migrations()[0]}; CREATE TABLE notes (text TEXT NOT NULL UNIQUE)")
        notebook = Notebook(connection)
        await connection.set_trace_callback(notebook.statements.append)
        yield notebook


@pytest.fixture
async def notebook(tmp_path: Path) -> AsyncIterator[Notebook]:
    async with opened(tmp_path) as notebook:
        notebook.writer.start()
        yield notebook
        await notebook.writer.stop()


async def submit_all(writer: Writer, *operations: Callable[[Transaction], Any]) -> list["asyncio.Task[Any]"]:
    """Each operation submitted by a caller of its own, in order."""
    callers = [asyncio.create_task(writer.submit(operation)) for operation in operations]
    await asyncio.sleep(0)  # each caller runs up to its wait
    return callers


async def test_what_is_submitted_during_a_commit_is_committed_together(notebook: Notebook) -> None:
    async with notebook.busy():
        callers = await submit_all(notebook.writer, *(note(str(number)) for number in range(100)))
    assert await asyncio.gather(*callers) == [str(number) for number in range(100)]
    assert notebook.commits == 2


async def test_a_lone_operation_is_committed_at_once(notebook: Notebook) -> None:
    assert await notebook.writer.submit(note("a")) == "a"
    assert (notebook.commits, await notebook.notes()) == (1, ["a"])


async def test_operations_run_in_the_order_they_were_submitted(notebook: Notebook) -> None:
    texts = [str(number) for number in range(1200)]
    async with notebook.busy():
        callers = await submit_all(notebook.writer, *map(note, texts))
    await asyncio.gather(*callers)
    assert await notebook.notes() == texts


@pytest.mark.parametrize(
    "error",
    [ValueError("bug"), draining(), sqlite3.IntegrityError("twice"), StopIteration("an iterator ran out")],
    ids=lambda error: type(error).__name__,
)
async def test_an_operation_that_raises_takes_nothing_else_with_it(notebook: Notebook, error: Exception) -> None:
    async with notebook.busy():
        before, bad, after = await submit_all(notebook.writer, note("a"), note("b", "c", then=error), note("d"))
    async with asyncio.timeout(BOUND):
        await asyncio.wait([before, bad, after])
    assert (before.result(), after.result(), await notebook.notes()) == ("a", "d", ["a", "d"])
    assert bad.exception() is not None


async def test_a_caller_gets_the_very_refusal_of_its_operation(notebook: Notebook) -> None:
    refusal = StoreError(ErrorReason.ERROR_REASON_RUN_NOT_FOUND, "no such run")
    with pytest.raises(StoreError) as caught:
        await notebook.writer.submit(note("a", then=refusal))
    assert caught.value is refusal


async def test_an_operation_undone_by_a_constraint_leaves_none_of_its_rows(notebook: Notebook) -> None:
    await notebook.writer.submit(note("a"))
    with pytest.raises(sqlite3.IntegrityError):
        await notebook.writer.submit(note("b", "a"))
    assert await notebook.notes() == ["a"]


async def test_the_commit_is_told_before_its_callers_resume(notebook: Notebook) -> None:
    await notebook.writer.submit(note("a"))
    assert [notices.ended for notices in notebook.told] == [["a"]]


async def test_of_an_operation_that_was_undone_nothing_is_told(notebook: Notebook) -> None:
    async with notebook.busy():
        callers = await submit_all(notebook.writer, note("a", then=ValueError()), note("b"))
    await asyncio.gather(*callers, return_exceptions=True)
    assert [notices.ended for notices in notebook.told][1:] == [["b"]]


async def test_the_operation_of_a_cancelled_caller_is_whole_and_the_next_works(notebook: Notebook) -> None:
    async with notebook.busy():
        [caller] = await submit_all(notebook.writer, note("a", "b"))
        caller.cancel()
        await asyncio.wait([caller])
    await notebook.writer.submit(note("c"))
    assert caller.cancelled()
    assert [text for text in await notebook.notes() if text != "c"] in ([], ["a", "b"])


async def test_a_caller_cancelled_while_its_operation_runs_strands_no_transaction(notebook: Notebook) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def operation(tx: Transaction) -> None:
        note("a")(tx)
        begun.set()
        assert go_on.wait(BOUND)
        note("b")(tx)

    [caller] = await submit_all(notebook.writer, operation)
    assert await asyncio.to_thread(begun.wait, BOUND)
    caller.cancel()
    await asyncio.wait([caller])
    go_on.set()
    await notebook.writer.submit(note("c"))
    assert await notebook.notes() == ["a", "b", "c"]
    assert not notebook.connection.in_transaction


async def test_a_disk_that_is_full_refuses_the_whole_batch_and_changes_nothing(notebook: Notebook) -> None:
    await notebook.connection.execute_fetchall("PRAGMA max_page_count = 10")
    async with notebook.busy():
        callers = await submit_all(notebook.writer, note("small"), note("x" * 100_000))
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    reasons = [outcome.reason for outcome in outcomes if isinstance(outcome, StoreError)]
    assert reasons == [ErrorReason.ERROR_REASON_STORAGE_UNAVAILABLE] * 2
    assert (await notebook.notes(), notebook.told[-1].ended) == ([], [])


async def test_a_disk_that_has_room_again_is_written_to_again(notebook: Notebook) -> None:
    await notebook.connection.execute_fetchall("PRAGMA max_page_count = 10")
    with pytest.raises(StoreError):
        await notebook.writer.submit(note("x" * 100_000))
    await notebook.connection.execute_fetchall("PRAGMA max_page_count = 1000")
    await notebook.writer.submit(note("a"))
    assert await notebook.notes() == ["a"]


async def test_stopping_commits_what_was_submitted(tmp_path: Path) -> None:
    async with opened(tmp_path) as notebook:
        texts = [str(number) for number in range(1200)]
        notebook.writer.start()
        callers = await submit_all(notebook.writer, *map(note, texts))
        await notebook.writer.stop()
        assert (await asyncio.gather(*callers), await notebook.notes()) == (texts, texts)


async def test_a_writer_that_stops_takes_nothing_more(tmp_path: Path) -> None:
    async with opened(tmp_path) as notebook:
        notebook.writer.start()
        await notebook.writer.stop()
        with pytest.raises(StoreError) as refusal:
            await notebook.writer.submit(note("late"))
        assert refusal.value.reason == ErrorReason.ERROR_REASON_SERVER_DRAINING
        assert await notebook.notes() == []


@settings(max_examples=40, deadline=None)
@given(fates=st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
def test_just_the_operations_that_were_acknowledged_are_kept(fates: list[tuple[bool, bool]]) -> None:
    """Whichever of them raise, and whether they come one by one or together."""

    async def check(folder: Path) -> None:
        async with opened(folder) as notebook:
            notebook.writer.start()
            callers: list[asyncio.Task[str]] = []
            for number, (raises, waits) in enumerate(fates):
                operation = note(f"{number}a", f"{number}b", then=ValueError() if raises else None)
                callers += await submit_all(notebook.writer, operation)
                if waits:
                    await asyncio.wait(callers)
            outcomes = await asyncio.gather(*callers, return_exceptions=True)
            acknowledged = [text for outcome in outcomes if isinstance(outcome, str) for text in outcome.split()]
            told = [text for notices in notebook.told for text in notices.ended]
            await notebook.writer.stop()
            assert await notebook.notes() == acknowledged == told

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check(Path(folder)))


async def test_a_function_runs_with_the_raw_connection_on_its_own_thread(notebook: Notebook) -> None:
    def look(connection: sqlite3.Connection, number: int) -> tuple[Any, int]:
        return connection.execute("SELECT ?", (number,)).fetchone(), threading.get_ident()

    row, thread = await run_on_thread(notebook.connection, look, 7)
    assert row == (7,)
    assert thread != threading.get_ident()


async def test_what_a_function_raises_on_the_thread_reaches_its_caller(notebook: Notebook) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        await run_on_thread(notebook.connection, fail)


async def test_a_batch_is_one_hop_to_the_thread(notebook: Notebook, caplog: pytest.LogCaptureFixture) -> None:
    async with notebook.busy():
        callers = await submit_all(notebook.writer, *(note(str(number)) for number in range(100)))
        caplog.set_level("DEBUG", logger="aiosqlite")
    await asyncio.gather(*callers)
    hops = [record for record in caplog.records if record.getMessage().startswith("executing")]
    assert len(hops) == 1
