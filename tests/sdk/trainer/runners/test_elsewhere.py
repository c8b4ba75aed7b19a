"""Training without an agent: its runners are another program, started elsewhere or by `RunnerCommand`."""

import asyncio
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.trainer.runners import remote

Start = Callable[[], None]

RUNNER = """
import agentlightning as agl

def agent(task: str, prompt_template: agl.PromptTemplate) -> float:
    return float(len(prompt_template.format(x=task)))
"""
TRAIN = """
import sys
import agentlightning as agl

@agl.algo
async def count(store, train_dataset):
    rollouts = [(await store.enqueue_rollout(task)).rollout_id for task in train_dataset]
    await store.wait_for_rollouts(rollouts)
    print("REWARDS", sorted(r.attempt.final_reward for r in await store.query_rollouts(rollouts)))

agl.Trainer(
    algorithm=count,
    strategy=agl.RunnerCommand(sys.argv[1:]),
    queue="rooms",
    max_concurrency=2,
    max_rollouts=7,
    initial_resources={"prompt_template": "{x}"},
).fit(train_dataset=["a", "bcd"])
"""


@pytest.fixture
def trainer(store_address: str, tmp_path: Path) -> agl.Trainer:
    """One whose runners are elsewhere."""
    return agl.Trainer(
        store=store_address,
        queue="rooms",
        n_runners=0,
        folder=tmp_path,
        initial_resources={"prompt_template": "{x}"},
    )


@pytest.fixture
def runner(store_address: str) -> Iterator[Start]:
    """Starts a runner of that queue, as if elsewhere."""
    client = agl.LightningStoreClient(store_address, queue="rooms")
    enough = threading.Event()

    def agent(task: str, prompt_template: agl.PromptTemplate) -> float:
        return float(len(prompt_template.format(x=task)))

    async def work() -> None:
        runner = agl.LitAgentRunner[Any]()
        with runner.run_context(agent=agent, store=client):
            working = asyncio.create_task(runner.iter())
            await asyncio.to_thread(enough.wait)
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        await client.close()

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    yield thread.start
    enough.set()
    thread.join()


COMMANDS = {
    "works": [sys.executable, "-m", "agentlightning", "runner", "agent.py:agent"],
    "dies": ["sh", "-c", 'echo "$AGL_CONCURRENCY of $AGL_MAX_ROLLOUTS from $AGL_QUEUE" >&2; exit 3'],
    "leaves something running": [
        "sh",
        "-c",
        "sleep 600 & printf 'go\\npanic: out of luck\\n  at main:7\\n' >&2; exit 3",
    ],
    "is killed": ["sh", "-c", "kill -SEGV $$"],
    "ends": ["true"],
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What training with each of the commands said, all at once, each in a program of its own."""
    training = {}
    for kind, command in COMMANDS.items():
        folder = tmp_path_factory.mktemp("training")
        (folder / "agent.py").write_text(RUNNER)
        program = [sys.executable, "-c", TRAIN, *command]
        training[kind] = subprocess.Popen(
            program, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    return {kind: process.communicate(timeout=60)[0] for kind, process in training.items()}


def test_runners_elsewhere_train_without_an_agent_here(trainer: agl.Trainer, runner: Start) -> None:
    runner()
    result = trainer.fit(train_dataset=["a", "bcd"])
    assert (result.statuses["succeeded"], result.summary["train"]["mean_reward"]) == (2, 2.0)


def test_an_adapter_for_some_agents_needs_none_here(trainer: agl.Trainer, runner: Start) -> None:
    runner()
    narrowed = agl.Trainer(
        store=trainer.store, queue="rooms", strategy="remote", folder=trainer.folder, adapter={"agent_match": "writer"}
    )
    narrowed.initial_resources = trainer.initial_resources
    assert narrowed.fit(train_dataset=["a"]).statuses["succeeded"] == 1


def test_who_takes_no_rollout_is_told_how_a_runner_in_any_language_is_started(
    trainer: agl.Trainer, runner: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(remote, "_PATIENCE", 0.0)

    class StartWhenTold(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "No runner takes the rollouts" in record.getMessage():
                runner()

    handler = StartWhenTold()
    logging.getLogger("agentlightning").addHandler(handler)
    try:
        trainer.fit(train_dataset=["a"])
    finally:
        logging.getLogger("agentlightning").removeHandler(handler)
    assert f"AGL_STORE={trainer.store} AGL_QUEUE=rooms COMMAND" in caplog.text


@pytest.mark.parametrize(
    ("train", "why"),
    [
        (lambda trainer: trainer.fit(train_dataset=["a"]), r"the runners \(n_runners=1, strategy=None\) run it"),
        (lambda trainer: trainer.fit(train_dataset=["a"], backend="localhost:1"), "the runners"),
        (lambda trainer: trainer.fit(backend="localhost:1"), "the runners for a store elsewhere run it"),
        (lambda trainer: trainer.dev(None, ["a"]), r"dev\(\) runs it in this process"),
        (lambda trainer: trainer.dev(None, task="a"), r"dev\(\) runs it in this process"),
    ],
    ids=["fit", "fit with a store elsewhere", "runners for a store elsewhere", "dev", "dev of one task"],
)
def test_no_agent_is_refused_where_it_runs_here(tmp_path: Path, train: Callable[[agl.Trainer], Any], why: str) -> None:
    with pytest.raises(agl.TrainerError, match=f"agent is None, and {why}.*: give the agent, or train with n_runners"):
        train(agl.Trainer(folder=tmp_path))


def test_tasks_in_the_place_of_the_agent_are_refused(trainer: agl.Trainer) -> None:
    with pytest.raises(agl.TrainerError, match=r"agent is a list of 2: .* name it, fit\(train_dataset=...\)"):
        trainer.fit(["a", "bcd"])


def test_none_of_a_command_are_runners_elsewhere(trainer: agl.Trainer, runner: Start) -> None:
    runner()
    trainer.strategy = agl.RunnerCommand("false")
    assert trainer.fit(train_dataset=["a"]).statuses["succeeded"] == 1


def test_no_agent_is_refused_by_a_strategy_that_does_not_say_that_it_needs_none(tmp_path: Path) -> None:
    class Threads:
        def runners(self, work: Any, count: int) -> Any:
            raise AssertionError("nothing is to be started")

    with pytest.raises(agl.TrainerError, match="agent is None"):
        agl.Trainer(folder=tmp_path, strategy=Threads()).fit(train_dataset=["a"])


def test_a_command_is_told_all_it_needs_by_its_environment(ended: dict[str, str]) -> None:
    assert "REWARDS [1.0, 3.0]" in ended["works"]


def test_what_the_trainer_was_told_of_runners_is_told_to_the_command(ended: dict[str, str]) -> None:
    assert "2 of 7 from rooms" in ended["dies"].splitlines()


def test_a_command_that_keeps_dying_ends_the_training_with_its_last_words(ended: dict[str, str]) -> None:
    last = ended["dies"].splitlines()[-1]
    assert last.endswith("runner 0 died 5 times in a row: ended with exit code 3 (2 of 7 from rooms)")


def test_what_a_command_has_left_running_does_not_hide_that_it_died(ended: dict[str, str]) -> None:
    last = ended["leaves something running"].splitlines()[-1]
    assert last.endswith("runner 0 died 5 times in a row: ended with exit code 3 (panic: out of luck)")


def test_a_command_that_keeps_being_killed_ends_the_training_with_the_signal(ended: dict[str, str]) -> None:
    last = ended["is killed"].splitlines()[-1]
    assert last.endswith("runner 0 died 5 times in a row: ended with exit code 139 (was killed by SIGSEGV)")


def test_a_command_that_takes_nothing_is_told_apart_from_an_agent(ended: dict[str, str]) -> None:
    told = "If it is an agent, for one rollout: fit(agl.CommandAgent("
    assert {name: told in said for name, said in ended.items()} == {name: name != "works" for name in ended}


def test_a_command_that_ends_before_the_training_ends_it(ended: dict[str, str]) -> None:
    last = ended["ends"].splitlines()[-1]
    assert last.endswith("each has taken its max_rollouts=7, and there is more to do; take more, or None for any")


@pytest.mark.parametrize("command", [["./no-such-runner", "fast"], "./no-such-runner fast", []])
def test_a_command_that_is_not_there_is_refused_by_name(command: Any) -> None:
    with pytest.raises(agl.TrainerError, match=r"command is \[.*\], and there is no program '.*': build it"):
        agl.RunnerCommand(command)


def test_a_command_is_refused_where_no_process_can_be_started(tmp_path: Path) -> None:
    async def train() -> None:
        agl.Trainer(folder=tmp_path, strategy=agl.RunnerCommand("true")).fit(train_dataset=["a"])

    with pytest.raises(agl.TrainerError, match="the command true cannot be started from here, as an event loop is"):
        asyncio.run(train())
