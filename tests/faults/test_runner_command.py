"""`agl runner` as machines run it: told to end by signals, its processes killed, its store away."""

import json
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from agentlightning import LightningStoreClient
from agentlightning.types import EnqueueRolloutRequest, Rollout

AGL = "import os, sys; os.dup2(1, 2); from agentlightning.cli import main; sys.exit(main(sys.argv[1:]))"
"""The command, saying all it says in one stream."""
AGENT = """
import asyncio, time
from pathlib import Path

def blocking(task):
    print("began", flush=True)
    while not Path("go on").exists():
        time.sleep(0.02)
    return 1.0

async def waiting(task):
    print("began", flush=True)
    await asyncio.get_running_loop().create_future()

def quick(task):
    return 1.0

def talkative(task):
    for _ in range(500):
        print("one", "line", "of", "mine")
    return 1.0
"""
STOPPED = ("infrastructure", "RunnerStopped")
Start = Callable[..., Any]


def hear(runner: Any, words: str) -> str:
    """Wait until it says this."""
    lines = [runner.greeting]
    while words not in lines[-1]:
        lines.append(runner.read_line())
        assert lines[-1], f"it ended before it said {words!r}: {lines}"
    return str(lines[-1])


def last_line(runner: Any) -> str:
    last = ""
    while line := runner.read_line():
        last = line
    return last


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with an agent in it."""
    (tmp_path / "rooms.py").write_text(AGENT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server(serve: Callable[..., Any]) -> Any:
    return serve()


@pytest.fixture
async def store(server: Any) -> AsyncIterator[LightningStoreClient]:
    client = LightningStoreClient(server.address, queue="rooms")
    yield client
    await client.close()


@pytest.fixture
async def rollouts(store: LightningStoreClient) -> list[Rollout]:
    return await store.enqueue_many_rollouts([EnqueueRolloutRequest(input=number) for number in range(2)])


@pytest.fixture
def start(run_script: Callable[..., Any], server: Any) -> Start:
    """Starts `agl runner` for the queue of the test."""

    def start_runner(agent: str, *arguments: str) -> Any:
        return run_script(AGL, "runner", f"rooms:{agent}", "--store", server.address, "--queue", "rooms", *arguments)

    return start_runner


async def statuses(store: LightningStoreClient, rollouts: list[Rollout]) -> list[str]:
    found = [await store.get_rollout_by_id(rollout.rollout_id) for rollout in rollouts]
    return [rollout.status for rollout in found if rollout is not None]


async def failures(store: LightningStoreClient, rollout: Rollout) -> list[tuple[str, str] | None]:
    """Why each of its attempts ended."""
    attempts = await store.query_attempts(rollout.rollout_id)
    return [attempt.failure and (attempt.failure.kind, attempt.failure.type) for attempt in attempts]


async def test_it_ends_after_as_many_rollouts_as_it_is_to_do(
    store: LightningStoreClient, rollouts: list[Rollout], start: Start
) -> None:
    runner = start("quick", "--max-rollouts", "2", "--concurrency", "2", "--json")
    assert json.loads(last_line(runner))["rollouts"] == 2
    assert runner.wait() == 0
    assert await statuses(store, rollouts) == ["succeeded", "succeeded"]


@pytest.mark.parametrize(("number", "processes"), [(signal.SIGTERM, "1"), (signal.SIGINT, "2")])
async def test_the_first_signal_finishes_what_runs_and_takes_no_more(
    store: LightningStoreClient, start: Start, folder: Path, number: signal.Signals, processes: str
) -> None:
    await store.enqueue_many_rollouts([EnqueueRolloutRequest(input=number) for number in range(3)])
    runner = start("blocking", "--processes", processes)
    for _ in range(int(processes)):
        hear(runner, "began")
        runner.greeting = ""
    runner.send(number)
    hear(runner, f"{number.name}: finishing what runs, taking no more. A second signal stops it.")
    (folder / "go on").touch()
    assert runner.wait() == 0
    left = 3 - int(processes)
    ended = await store.query_rollouts(status_in=["succeeded", "queuing"])
    assert sorted(rollout.status for rollout in ended) == ["queuing"] * left + ["succeeded"] * int(processes)


@pytest.mark.parametrize(
    ("agent", "processes", "number", "code"),
    [("blocking", "1", signal.SIGINT, 130), ("waiting", "2", signal.SIGTERM, 143)],
)
async def test_the_second_signal_gives_back_what_runs(
    store: LightningStoreClient, start: Start, agent: str, processes: str, number: signal.Signals, code: int
) -> None:
    rollout = await store.enqueue_rollout(0)
    runner = start(agent, "--processes", processes)
    hear(runner, "began")
    runner.send(number)
    hear(runner, "A second signal stops it.")
    runner.send(number)
    assert runner.wait() == code
    assert (await statuses(store, [rollout]), await failures(store, rollout)) == (["requeuing"], [STOPPED])


async def test_lines_that_agents_print_at_once_do_not_mix(
    store: LightningStoreClient, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")  # as in most images
    await store.enqueue_many_rollouts([EnqueueRolloutRequest(input=number) for number in range(20)])
    runner = start("talkative", "--processes", "2", "--max-rollouts", "10")
    lines = [runner.greeting, *iter(runner.read_line, "")]
    assert lines.count("one line of mine") == 20 * 500


def test_a_signal_while_the_agent_is_imported_ends_it_at_once(folder: Path, start: Start) -> None:
    (folder / "rooms.py").write_text("import time\nprint('imported', flush=True)\ntime.sleep(60)")
    runner = start("agent")
    hear(runner, "imported")
    runner.send(signal.SIGTERM)
    assert runner.wait() == 143


async def test_what_is_not_finished_while_it_drains_is_given_back(
    store: LightningStoreClient, rollouts: list[Rollout], start: Start
) -> None:
    runner = start("waiting", "--drain-seconds", "0.1")
    hear(runner, "began")
    runner.send(signal.SIGTERM)
    hear(runner, "Not finished in 0.1 s: what still runs is given back.")
    assert runner.wait() == 1
    assert await failures(store, rollouts[0]) == [STOPPED]


async def test_processes_end_with_the_one_that_started_them_and_give_back_what_they_hold(
    store: LightningStoreClient, rollouts: list[Rollout], start: Start
) -> None:
    runner = start("waiting", "--processes", "2")
    hear(runner, "began")
    runner.kill()
    while runner.read_line():  # until none of them is left that could say something
        pass
    assert STOPPED in [why for rollout in rollouts for why in await failures(store, rollout)]


async def test_a_store_that_is_not_there_yet_is_waited_for(run_script: Callable[..., Any], serve: Start) -> None:
    server = serve()
    server.kill()
    runner = run_script(AGL, "runner", "rooms:quick", "--store", server.address, "--max-rollouts", "1")
    hear(runner, f"the store at {server.address} does not answer, trying until it does (")
    serve(port=server.port)
    store = LightningStoreClient(server.address)
    await store.enqueue_rollout(1)
    hear(runner, f"the store at {server.address} answers again, after ")
    assert runner.wait() == 0
    await store.close()


def test_a_runner_that_waits_for_its_store_ends_at_the_first_signal(
    run_script: Callable[..., Any], serve: Start
) -> None:
    server = serve()
    server.kill()
    runner = run_script(AGL, "runner", "rooms:quick", "--store", server.address)
    hear(runner, "does not answer")
    runner.send(signal.SIGTERM)
    assert runner.wait() == 0


async def test_an_empty_queue_and_a_store_that_goes_away_are_said_in_a_line_each_and_waited_for(
    store: LightningStoreClient, server: Any, serve: Start, start: Start
) -> None:
    await LightningStoreClient(server.address, queue="others").enqueue_rollout(1)
    runner = start("quick", "--concurrency", "4", "--max-rollouts", "1")
    hear(runner, f"Queue 'rooms' of the store at {server.address}: nothing waits yet, in others: others (1).")
    hear(runner, "Started async rollouts")
    server.kill()
    hear(runner, "does not answer")
    serve(port=server.port)
    rollout = await store.enqueue_rollout(1)
    assert "answers again" in runner.read_line()
    assert runner.wait() == 0
    assert await statuses(store, [rollout]) == ["succeeded"]
