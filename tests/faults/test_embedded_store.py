"""The store of a folder: one server for all of its clients, there as long as one of them is, and not longer."""

import fcntl
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agentlightning import LightningStoreClient
from agentlightning.errors import StoreUnavailableError
from agentlightning.store.embedded import EmbeddedStore, address_of

CLIENT = """
import sys
from pathlib import Path
from agentlightning.errors import StoreUnavailableError
from agentlightning.store.embedded import EmbeddedStore

store = EmbeddedStore(Path(sys.argv[1]))
try:
    print(store.start(), flush=True)
except StoreUnavailableError as error:
    print("refused:", error, flush=True)
for line in sys.stdin:
    if line == "leave\\n":
        store.stop()
        print("left", flush=True)
"""


def server_of(folder: Path) -> int:
    """The process id of the folder's server, as its lock file tells it."""
    return int(json.loads((folder / "store.db.lock").read_text())["pid"])


def client_of(store: EmbeddedStore) -> LightningStoreClient:
    return LightningStoreClient(store.address, retry_seconds=20)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".agentlightning"


@pytest.fixture
def start_client(run_script: Callable[..., Any], folder: Path) -> Callable[[], Any]:
    """Starts a process that has the folder's store; its greeting is the store's address."""
    return lambda: run_script(CLIENT, str(folder))


async def test_a_store_that_was_started_answers(folder: Path) -> None:
    with EmbeddedStore(folder) as store:
        assert (await client_of(store).enqueue_rollout("task")).status == "queuing"


def test_two_in_one_folder_share_one_server(folder: Path) -> None:
    with EmbeddedStore(folder) as first, EmbeddedStore(folder) as second:
        assert second.address == first.address
        assert (first.is_ours, second.is_ours) == (True, False)


def test_two_processes_in_one_folder_share_one_server(folder: Path, start_client: Callable[[], Any]) -> None:
    clients = [start_client() for _ in range(2)]
    assert clients[0].greeting == clients[1].greeting == address_of(folder / "store.db")


def test_two_folders_have_a_server_each(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path / "a") as first, EmbeddedStore(tmp_path / "b") as second:
        assert first.address != second.address


async def test_a_server_stays_while_one_of_its_clients_does(folder: Path, start_client: Callable[[], Any]) -> None:
    first, last = start_client(), start_client()
    assert first.ask("leave") == "left"
    assert (await LightningStoreClient(last.greeting).enqueue_rollout("task")).status == "queuing"


def test_a_server_ends_with_the_last_of_its_clients(
    folder: Path, start_client: Callable[[], Any], ends: Callable[[int], bool]
) -> None:
    clients = [start_client(), start_client()]
    server = server_of(folder)
    for client in clients:
        assert client.ask("leave") == "left"
    assert ends(server)


def test_a_server_has_ended_when_its_only_client_has_left(folder: Path) -> None:
    with EmbeddedStore(folder):
        server = server_of(folder)
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)


def test_a_client_that_is_killed_leaves_no_server_behind(
    folder: Path, start_client: Callable[[], Any], ends: Callable[[int], bool]
) -> None:
    client = start_client()
    server = server_of(folder)
    client.kill()
    assert ends(server)


def test_a_server_outlives_the_client_that_started_it_for_those_who_joined(
    folder: Path, start_client: Callable[[], Any], ends: Callable[[int], bool]
) -> None:
    starter, joined = start_client(), start_client()
    server = server_of(folder)
    starter.kill()
    assert address_of(folder / "store.db") == joined.greeting
    joined.kill()
    assert ends(server)


def test_whoever_comes_as_the_last_one_is_killed_has_a_server(folder: Path, start_client: Callable[[], Any]) -> None:
    """The server that is going and the one that comes never meet."""
    for _ in range(5):
        start_client().kill()
    with EmbeddedStore(folder) as store:
        assert address_of(folder / "store.db") == store.address


async def test_a_folder_keeps_its_data_from_one_server_to_the_next(folder: Path) -> None:
    with EmbeddedStore(folder) as store:
        enqueued = await client_of(store).enqueue_rollout("task")
    with EmbeddedStore(folder) as store:
        assert await client_of(store).get_rollout_by_id(enqueued.rollout_id) == enqueued


async def test_a_server_that_is_killed_comes_back_at_its_address_with_its_data(folder: Path) -> None:
    with EmbeddedStore(folder) as store:
        store.keep_running()
        client = client_of(store)
        enqueued = await client.enqueue_rollout("task")
        for _ in range(3):
            os.kill(server_of(folder), signal.SIGKILL)
            assert await client.get_rollout_by_id(enqueued.rollout_id) == enqueued
        assert address_of(folder / "store.db") == store.address


async def test_a_server_that_came_back_ends_with_its_last_client(folder: Path, ends: Callable[[int], bool]) -> None:
    with EmbeddedStore(folder) as store:
        store.keep_running()
        client = client_of(store)
        await client.enqueue_rollout("task")
        os.kill(server_of(folder), signal.SIGKILL)
        await client.enqueue_rollout("task")
        server = server_of(folder)
    assert ends(server)


async def test_whoever_comes_while_a_killed_server_comes_back_joins_it(
    folder: Path, ends: Callable[[int], bool]
) -> None:
    """Two would otherwise start one each, and one of them would be refused the file."""
    with EmbeddedStore(folder) as store:
        store.keep_running()
        client = client_of(store)
        for _ in range(3):
            server = server_of(folder)
            os.kill(server, signal.SIGKILL)
            assert ends(server)
            with EmbeddedStore(folder) as joined:
                assert joined.address == store.address
            assert (await client.enqueue_rollout("task")).status == "queuing"


def test_a_store_that_cannot_start_says_what_its_server_said(folder: Path, start_client: Callable[[], Any]) -> None:
    (folder / "store.db").mkdir(parents=True)
    greeting = start_client().greeting
    assert greeting.startswith("refused:")
    assert "unable to open database file" in greeting


def test_a_store_that_does_not_start_is_nobodys_any_more(folder: Path) -> None:
    (folder / "store.db").mkdir(parents=True)
    with pytest.raises(StoreUnavailableError, match="the embedded store did not start"):
        EmbeddedStore(folder).start()
    with (folder / "clients.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
