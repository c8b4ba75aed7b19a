"""`agl runner --command` when it is told to end, or killed: no process of an agent is left behind."""

import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from agentlightning import LightningStoreClient
from agentlightning.types import EnqueueRolloutRequest

AGL = "import os, sys; os.dup2(1, 2); from agentlightning.cli import main; sys.exit(main(sys.argv[1:]))"
AGENT = """#!/bin/sh
trap 'echo stopped > stopped; exit' TERM
setsid sleep 1000 &
echo "pid $!"
echo "pid $$"
while [ ! -e "go on" ]; do sleep 0.02; done
echo 1
"""
Start = Callable[..., Any]


def hear(runner: Any, words: str) -> str:
    """The next line in which it says this."""
    line = runner.read_line()
    while words not in line:
        assert line, f"it ended before it said {words!r}: {runner.said}"
        line = runner.read_line()
    return str(line)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with an agent in it; what is temporary is there too."""
    (tmp_path / "agent.sh").write_text(AGENT)
    (tmp_path / "agent.sh").chmod(0o755)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
async def store(serve: Callable[..., Any]) -> AsyncIterator[LightningStoreClient]:
    client = LightningStoreClient(serve().address, queue="rooms")
    yield client
    await client.close()


@pytest.fixture
def start(run_script: Callable[..., Any], store: LightningStoreClient) -> Start:
    """Starts a runner, waits until it has so many agents at work, and says their processes."""

    def start_runner(count: int, *arguments: str) -> tuple[Any, list[int]]:
        options = ["--store", store.server_address, "--queue", "rooms", "--show-output", *arguments]
        runner = run_script(AGL, "runner", "--command", "./agent.sh", *options)
        return runner, [int(hear(runner, " pid ").split()[-1]) for _ in range(2 * count)]

    return start_runner


async def enqueue(store: LightningStoreClient, count: int) -> list[str]:
    requests = [EnqueueRolloutRequest(input=number) for number in range(count)]
    return [rollout.rollout_id for rollout in await store.enqueue_many_rollouts(requests)]


async def test_killed_it_leaves_no_agent_behind(
    store: LightningStoreClient, start: Start, folder: Path, ends: Callable[[int], bool]
) -> None:
    await enqueue(store, 2)
    runner, pids = start(2, "--concurrency", "2")
    runner.kill()
    assert [pid for pid in pids if not ends(pid)] == []


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_the_second_signal_ends_agents_and_the_rollouts_are_given_back(
    store: LightningStoreClient, start: Start, folder: Path, ends: Callable[[int], bool], processes: str
) -> None:
    rollouts = await enqueue(store, int(processes))
    runner, pids = start(int(processes), "--processes", processes)
    runner.send(signal.SIGTERM)
    hear(runner, "A second signal stops it.")
    runner.send(signal.SIGTERM)
    assert (runner.wait(), [pid for pid in pids if not ends(pid)]) == (143, [])
    assert (folder / "stopped").exists()
    assert list((folder / "tmp").iterdir()) == []
    for rollout_id in rollouts:
        attempt = await store.get_latest_attempt(rollout_id)
        assert attempt and attempt.failure
        assert (attempt.failure.kind, attempt.failure.type) == ("infrastructure", "RunnerStopped")


async def test_given_up_while_an_agent_that_does_not_end_is_given_its_time_it_leaves_none_behind(
    store: LightningStoreClient, start: Start, folder: Path, ends: Callable[[int], bool]
) -> None:
    (folder / "agent.sh").write_text(AGENT.replace("echo stopped > stopped; exit", "touch asked"))
    [rollout] = await enqueue(store, 1)
    runner, pids = start(1)
    await store.cancel_rollouts([rollout])
    hear(runner, "is lost: cancelled")
    runner.send(signal.SIGTERM)
    hear(runner, "A second signal stops it.")
    runner.send(signal.SIGTERM)
    assert (runner.wait(), [pid for pid in pids if not ends(pid)]) == (143, [])


async def test_the_first_signal_lets_agents_finish(store: LightningStoreClient, start: Start, folder: Path) -> None:
    running, waiting = await enqueue(store, 2)
    runner, _ = start(1)
    runner.send(signal.SIGTERM)
    hear(runner, "taking no more")
    (folder / "go on").touch()
    assert runner.wait() == 0
    found = [await store.get_rollout_by_id(rollout_id) for rollout_id in (running, waiting)]
    assert [rollout and rollout.status for rollout in found] == ["succeeded", "queuing"]


TRAIN = """
import agentlightning as agl

@agl.algo
async def algorithm(store, train_dataset):
    rollout = await store.enqueue_rollout(train_dataset[0])
    await store.wait_for_rollouts([rollout.rollout_id])

result = agl.Trainer(algorithm=algorithm, n_runners=1).fit(agl.CommandAgent("./agent.sh"), [4])
print("DONE", flush=True)
"""


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_trainer_runs_commands_and_leaves_none_behind(
    run_script: Callable[..., Any], folder: Path, ends: Callable[[int], bool], is_killed: bool
) -> None:
    (folder / "agent.sh").write_text(AGENT.replace('echo "pid $$"', 'echo "PIDS $! $$" > "$SAID"'))
    trainer = run_script("import os; os.environ['SAID'] = f'/proc/{os.getpid()}/fd/1'" + TRAIN)
    line = trainer.greeting if trainer.greeting.startswith("PIDS") else hear(trainer, "PIDS")
    if is_killed:
        trainer.kill()
    else:
        (folder / "go on").touch()
        hear(trainer, "DONE")
    assert [pid for pid in line.split()[1:] if not ends(int(pid))] == []
