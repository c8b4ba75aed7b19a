"""A network that swallows everything for a while, between a store and its runners, in network namespaces of their own.

Nothing tells either side that it is cut off: no connection is reset and no address is unreachable. Each side's
neighbour has merely an Ethernet address that nobody has.
"""

import contextlib
import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

STORE, RUNNERS = "10.97.0.1", "10.97.0.2"
NOBODY = "02:00:00:00:00:99"
PORT = "4747"
BOUND = 90.0
SERVER = "from agentlightning_server.__main__ import main; main()"
AGL = "import os, sys; os.dup2(1, 2); from agentlightning.cli import main; sys.exit(main(sys.argv[1:]))"
AGENT = """
import asyncio

async def brief(seconds):
    await asyncio.sleep(seconds)
    return 1.0
"""
ALGORITHM = """
import asyncio, json, sys, time
import agentlightning as agl

async def main():
    store = agl.LightningStoreClient(sys.argv[1], queue="rooms")
    print("ready", flush=True)
    for line in sys.stdin:
        requests = [agl.EnqueueRolloutRequest(input=seconds) for seconds in json.loads(line)]
        rollouts = await store.enqueue_many_rollouts(requests)
        async for rollout in store.iter_finished([rollout.rollout_id for rollout in rollouts]):
            print(rollout.status, time.monotonic(), flush=True)

asyncio.run(main())
"""
DONE = "SELECT count(*), count(DISTINCT rollout_id) FROM attempts WHERE status = 'succeeded'"
_numbers = itertools.count()


def hear(runner: Any, words: str) -> None:
    """Wait until it says this."""
    while words not in (line := runner.read_line()):
        assert line, f"it ended before it said {words!r}: {runner.said}"


class Sides:
    """Two network namespaces with one cable between them."""

    def __init__(self) -> None:
        number = f"agl-{os.getpid()}-{next(_numbers)}"
        self.store, self.runners = f"{number}-store", f"{number}-runners"

    @contextlib.contextmanager
    def joined(self) -> Iterator["Sides"]:
        with contextlib.ExitStack() as stack:
            for name in (self.store, self.runners):
                self._ip("netns", "add", name)
                stack.callback(self._ip, "netns", "del", name)
            self._ip(*f"link add cable netns {self.store} type veth peer name cable netns {self.runners}".split())
            for name, address in ((self.store, STORE), (self.runners, RUNNERS)):
                self._ip("-n", name, "addr", "add", f"{address}/24", "dev", "cable")
                self._ip("-n", name, "link", "set", "cable", "up")
                self._ip("-n", name, "link", "set", "lo", "up")
            yield self

    def cut(self) -> None:
        for name, other in ((self.store, RUNNERS), (self.runners, STORE)):
            self._ip(*f"-n {name} neigh replace {other} lladdr {NOBODY} nud permanent dev cable".split())

    def join(self) -> None:
        for name, other in ((self.store, RUNNERS), (self.runners, STORE)):
            self._ip("-n", name, "neigh", "del", other, "dev", "cable")

    @staticmethod
    def _ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def sides() -> Iterator[Sides]:
    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2's `ip`")
    with contextlib.ExitStack() as stack:
        try:
            sides = stack.enter_context(Sides().joined())
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
        yield sides


@pytest.fixture
def start(run_script: Callable[..., Any]) -> Callable[..., Any]:
    """Starts a Python script in a network namespace."""

    def start_script(namespace: str, script: str, *arguments: str) -> Any:
        return run_script(script, *arguments, below=["ip", "netns", "exec", namespace])

    return start_script


def test_runners_that_are_cut_off_for_a_while_go_on_and_nothing_is_lost_or_done_twice(
    sides: Sides,
    start: Callable[..., Any],
    times: Callable[[int, int], int],
    tell: Callable[[str], None],
    faults_in: Callable[[Path], list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once while they work, some at what takes longer than that, and once while they wait and work comes meanwhile."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rooms.py").write_text(AGENT)
    database, seconds = tmp_path / "store.db", times(3, 60)
    start(sides.store, SERVER, "--host", STORE, "--port", PORT, "--db", str(database))
    algorithm = start(sides.store, ALGORITHM, f"{STORE}:{PORT}")
    for _ in range(2):
        runner = ["runner", "rooms.py:brief", "--store", f"{STORE}:{PORT}", "--queue", "rooms", "--concurrency", "2"]
        hear(start(sides.runners, AGL, *runner), "Started async rollouts")

    def hold_off(what: str, unfinished: int) -> None:
        """Keep them apart, join them, and wait for what is to be finished."""
        time.sleep(seconds)  # what is tested
        sides.join()
        joined = time.monotonic()
        ends = [float(algorithm.read_line(seconds=BOUND).removeprefix("succeeded ")) for _ in range(unfinished)]
        first = min(end for end in ends if end > joined)
        tell(f"runners {what} cut off for {seconds} s: go on {first - joined:.1f} s after the join")

    algorithm.write_line(json.dumps([seconds + 1, seconds + 2] + 38 * [0.1]))
    for _ in range(5):
        algorithm.read_line()
    sides.cut()
    hold_off("at work", unfinished=35)
    sides.cut()
    algorithm.write_line("[0.1]")
    hold_off("that wait", unfinished=1)
    assert faults_in(database) == []
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert connection.execute(DONE).fetchone() == (41, 41)
