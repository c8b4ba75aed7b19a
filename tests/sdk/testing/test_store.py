import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import agentlightning as agl
import pytest
from agentlightning.testing import FakeClock, TemporaryStore

BOUND = 10.0


def pid_of(folder: Path) -> int:
    return int(json.loads((folder / "store.db.lock").read_text())["pid"])


@pytest.fixture(params=["real time", "a clock"])
def temporary_store(request: pytest.FixtureRequest) -> Iterator[TemporaryStore]:
    with TemporaryStore(FakeClock() if request.param == "a clock" else None) as store:
        yield store


def test_it_needs_no_event_loop_of_the_test(temporary_store: TemporaryStore) -> None:
    client = agl.LightningStoreClient(temporary_store.address)
    enqueued = asyncio.run(client.enqueue_rollout("task"))
    assert [rollout.rollout_id for rollout in asyncio.run(client.query_rollouts())] == [enqueued.rollout_id]


@pytest.mark.parametrize("clock", [None, FakeClock()], ids=["real time", "a clock"])
def test_nothing_is_left_of_it(clock: FakeClock | None) -> None:
    with TemporaryStore(clock) as store:
        client = agl.LightningStoreClient(store.address, retry_seconds=0)
    assert not store.folder.exists()
    with pytest.raises(agl.StoreUnavailableError):
        asyncio.run(client.query_rollouts())


def test_two_share_nothing() -> None:
    with TemporaryStore() as one, TemporaryStore() as other:
        asyncio.run(agl.LightningStoreClient(one.address).enqueue_rollout("task"))
        assert not asyncio.run(agl.LightningStoreClient(other.address).query_rollouts())


@pytest.mark.parametrize("clock", ["", "FakeClock()"], ids=["real time", "a clock"])
def test_a_test_that_is_killed_leaves_no_server_behind(clock: str, tmp_path: Path) -> None:
    script = f"""
import sys
from agentlightning.testing import FakeClock, TemporaryStore
with TemporaryStore({clock}) as store:
    print(store.folder, flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", script]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}  # where what a killed test leaves behind goes with this one's
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        server = os.pidfd_open(pid_of(Path(process.stdout.readline().strip())))
        process.kill()
    try:
        assert select.select([server], [], [], BOUND)[0]
    finally:
        os.close(server)


def test_a_clock_cannot_move_a_server_that_is_gone() -> None:
    clock = FakeClock()
    with TemporaryStore(clock) as store:
        os.kill(pid_of(store.folder), signal.SIGKILL)
        with pytest.raises(agl.StoreUnavailableError, match="code -9"):
            clock.advance(1)
    assert not store.folder.exists()


def test_a_server_that_does_not_start_is_an_error_that_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentlightning.testing.store._DATABASE_NAME", "store.log/store.db")  # below a file
    with pytest.raises(agl.StoreUnavailableError, match="cannot open the database"), TemporaryStore(FakeClock()):
        pass


def test_pytest_is_loaded_only_by_those_who_ask_for_fixtures() -> None:
    code = "import sys, agentlightning.testing; print('pytest' in sys.modules, 'agentlightning_server' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["False", "False"]
