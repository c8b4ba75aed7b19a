"""Disks that are full or cannot be written to: a clear error, reads as before, and service again when they can."""

import asyncio
import itertools
import random
import resource
import sqlite3
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from agentlightning import LightningStoreClient
from agentlightning.errors import StoreUnavailableError
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.store_service_pb2_grpc import StoreServiceStub
from agentlightning_server.app import running
from agentlightning_server.clock import SECOND
from agentlightning_server.config import Config

BOUND = 10
WRITERS, REFUSALS_EACH = 8, 3
TASK = "a task of some size, " * 200


class Disk:
    """A small file system of the test's own.

    Attributes:
        path: Where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self, leaving: int = 0) -> None:
        """Leave no room on it, or so many bytes."""
        with self._filler.open("ab", buffering=0) as file:
            with suppress(OSError):
                while file.write(bytes(4096)):
                    pass
            file.truncate(max(0, file.tell() - leaving))

    def make_room(self) -> None:
        self._filler.unlink()


@pytest.fixture
def mount() -> Iterator[Callable[..., None]]:
    """Runs `mount` with arguments that end with a folder or file; what was mounted is gone after the test."""
    with ExitStack() as mounted:

        def run(*arguments: str | Path, remount: bool = False) -> None:
            done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
            if not remount:
                mounted.callback(subprocess.run, ["umount", "--lazy", arguments[-1]], check=True)

        yield run


@pytest.fixture
def disk(tmp_path: Path, mount: Callable[..., None]) -> Disk:
    path = tmp_path / "disk"
    path.mkdir()
    mount("-t", "tmpfs", "-o", "size=32m", "none", path)
    return Disk(path)


class Writes:
    """What became of tasks that were enqueued while the disk filled up."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, str] = {}
        self.refused: list[str] = []
        self.causes: Counter[str] = Counter()
        self._numbers = itertools.count()

    async def enqueue(self, client: LightningStoreClient) -> bool:
        """Whether one more was acknowledged."""
        task = f"{next(self._numbers)}: {TASK}"
        try:
            rollout = await client.enqueue_rollout(task)
        except StoreUnavailableError as error:
            assert error.reason == "STORAGE_UNAVAILABLE"
            self.refused.append(task)
            self.causes[error.metadata["cause"]] += 1
            return False
        self.acknowledged[rollout.rollout_id] = task
        return True

    async def until_refused(self, client: LightningStoreClient) -> None:
        """Several at once, so that the disk is full in the middle of a group's commit."""

        async def write() -> None:
            refusals = 0
            while refusals < REFUSALS_EACH:
                refusals += not await self.enqueue(client)

        async with asyncio.TaskGroup() as writers:
            for _ in range(WRITERS):
                writers.create_task(write())

    def check(self, database: Path, tell: Callable[[str], None], fault: str) -> None:
        with closing(sqlite3.connect(database)) as connection:
            kept = dict(connection.execute("SELECT rollout_id, input_json FROM rollouts"))
        lost = [rollout for rollout, task in self.acknowledged.items() if kept.get(rollout) != f'"{task}"']
        phantoms = {f'"{task}"' for task in self.refused} & set(kept.values())
        tell(
            f"{fault}: {len(self.acknowledged)} writes acknowledged, {len(self.refused)} refused "
            f"({', '.join(self.causes)}): {len(lost)} lost, {len(phantoms)} refused and there all the same"
        )
        assert (lost, phantoms) == ([], set())
        assert self.refused


@asynccontextmanager
async def client_of(address: str, retry_seconds: float = 0.0) -> AsyncIterator[LightningStoreClient]:
    client = LightningStoreClient(address, retry_seconds=retry_seconds)
    yield client
    await client.close()


async def answers_reads(client: LightningStoreClient, writes: Writes) -> bool:
    rollout_id, task = list(writes.acknowledged.items())[-1]
    found = await client.get_rollout_by_id(rollout_id)
    page = await client.query_rollouts(limit=10)
    counts = await client.statistics()
    return found is not None and found.input == task and counts["total_rollouts"] == page.total


async def test_a_full_disk_costs_nothing_that_was_acknowledged_and_is_written_to_again_when_it_has_room(
    disk: Disk,
    serve: Callable[..., Any],
    faults_in: Callable[[Path], list[str]],
    times: Callable[[int, int], int],
    tell: Callable[[str], None],
) -> None:
    server = serve(database=disk.path / "store.db")
    writes, rounds, chance, wal = Writes(), times(3, 20), random.Random(0), disk.path / "store.db-wal"
    async with client_of(server.address) as client, client_of(server.address, retry_seconds=60) as patient:
        assert await writes.enqueue(client)
        for _ in range(rounds):
            disk.fill(leaving=chance.randrange(1 << 19))
            await writes.until_refused(client)
            disk.fill()
            assert await answers_reads(client, writes)
            waiting = asyncio.create_task(writes.enqueue(patient))
            await writes.until_refused(client)
            disk.make_room()
            assert await waiting
            assert await writes.enqueue(client)
        largest = wal.stat().st_size
    server.send(15)
    assert server.wait() == 0
    writes.check(server.database, tell, f"disk filled {rounds} times, its write-ahead log at last {largest >> 10} KiB")
    assert faults_in(server.database) == []


async def test_a_lease_that_runs_out_while_the_disk_is_full_keeps_nobody_from_reading(disk: Disk) -> None:
    now = 1_800_000_000 * SECOND
    config = Config(database=disk.path / "store.db", port=0, grace=0.5)
    async with running(config, lambda: now) as address, client_of(address) as client:
        rollout = await client.enqueue_rollout(TASK)
        assert await client.dequeue_rollout(worker_id="w")
        disk.fill()
        await Writes().until_refused(client)
        now += 3600 * SECOND
        assert (await client.get_rollout_by_id(rollout.rollout_id)) is not None
        disk.make_room()
        again = await client.dequeue_rollout(worker_id="another")
        assert again is not None
        assert again.attempt.sequence_id == 2


async def test_a_file_that_cannot_be_written_to_any_more_is_read_and_written_to_again_when_it_can(
    serve: Callable[..., Any], faults_in: Callable[[Path], list[str]], tell: Callable[[str], None]
) -> None:
    """A limit on the size of the server's files refuses each write to them, as a file system gone read-only does."""
    server, writes = serve(), Writes()
    async with client_of(server.address) as client:
        assert await writes.enqueue(client)
        before = resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        await writes.until_refused(client)
        assert await answers_reads(client, writes)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, before)
        assert await writes.enqueue(client)
    server.send(15)
    assert server.wait() == 0
    writes.check(server.database, tell, "file not to be written to")
    assert faults_in(server.database) == []


async def test_the_refusal_of_a_write_says_when_to_try_again(serve: Callable[..., Any]) -> None:
    server = serve()
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    async with grpc.aio.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await StoreServiceStub(channel).UpdateWorker(pb.UpdateWorkerRequest(worker_id="w"))
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "google.rpc.retryinfo-bin" in dict([*refused.value.trailing_metadata()])


@pytest.mark.parametrize("what", ["the whole disk", "the file alone"])
def test_a_server_does_not_start_on_what_is_read_only(
    disk: Disk, mount: Callable[..., None], serve: Callable[..., Any], what: str
) -> None:
    first = serve(database=disk.path / "store.db")
    first.send(15)
    assert first.wait() == 0
    if what == "the whole disk":
        mount("-o", "remount,ro", disk.path, remount=True)
    else:
        mount("--bind", first.database, first.database)
        mount("-o", "remount,bind,ro", first.database, remount=True)
    refuses_to_start(serve, first.database, "read-only")


def test_a_server_does_not_start_on_a_disk_without_room_for_its_file(disk: Disk, serve: Callable[..., Any]) -> None:
    disk.fill()
    refuses_to_start(serve, disk.path / "store.db", "No space left")


async def test_a_server_that_cannot_renew_leases_as_it_starts_leaves_them_to_one_that_can(
    disk: Disk, serve: Callable[..., Any]
) -> None:
    server = serve(database=disk.path / "store.db")
    async with client_of(server.address) as client:
        await client.enqueue_rollout(TASK)
        claimed = await client.dequeue_rollout(worker_id="w")
        assert claimed is not None
        disk.fill()
        await Writes().until_refused(client)
    server.kill()
    refused = serve(database=server.database)
    assert refused.wait() == 1
    assert f"cannot open the database {str(server.database)!r}: database or disk is full" in refused.said
    disk.make_room()
    async with client_of(serve(database=server.database).address) as client:
        completed = await client.complete_attempt(claimed.rollout_id, claimed.attempt.attempt_id)
    assert completed.status == "succeeded"


def refuses_to_start(serve: Callable[..., Any], database: Path, why: str) -> None:
    server = serve(database=database)
    assert server.wait() == 1
    [line] = server.said.splitlines()
    assert str(database) in line
    assert why.lower() in line.lower()
