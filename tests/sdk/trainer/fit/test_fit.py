"""What reaches the runners and the agent of a `fit`, and what it tells at its end."""

import pickle
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.errors import StoreUnavailableError
from agentlightning.store.embedded import EmbeddedStore
from agentlightning.trainer.runners.execution import ThreadRunners, Work

Start = Callable[..., Any]


class Agent(agl.LitAgent[str]):
    """An agent that notes whom it knows."""

    known: tuple[Any, ...] = ()

    def rollout(self, task: str, resources: agl.NamedResources, rollout: agl.Rollout) -> float:
        self.known = (self.trainer, self.runner, self.tracer)
        return 1.0


def trainer_in_threads(store_address: str, folder: Path, **options: Any) -> agl.Trainer:
    return agl.Trainer(store=store_address, folder=folder, strategy="threads", **options)


def test_the_agent_knows_its_trainer_its_runner_and_their_tracer(store_address: str, tmp_path: Path) -> None:
    tracer = agl.Tracer()
    trainer = trainer_in_threads(store_address, tmp_path, tracer=tracer, runner=agl.LitAgentRunner)
    trainer.fit(agent := Agent(), ["a"])
    known_trainer, runner, known_tracer = agent.known
    assert known_trainer is trainer
    assert isinstance(runner, agl.LitAgentRunner)
    assert known_tracer is tracer is runner.tracer


def test_a_runner_object_does_the_rollouts_in_threads_as_many_as_asked_for(store_address: str, tmp_path: Path) -> None:
    runner = agl.LitAgentRunner[Any]()
    trainer_in_threads(store_address, tmp_path, runner=runner, n_runners=3).fit(agent := Agent(), ["a"])
    assert agent.known[1] is runner
    assert runner.max_concurrency == 3


def test_a_strategy_of_ones_own_makes_the_runners(store_address: str, tmp_path: Path) -> None:
    made: list[int] = []

    class InThreads:
        def runners(self, work: Work, count: int) -> ThreadRunners:
            made.append(count)
            return ThreadRunners(work, count)

    agl.Trainer(store=store_address, folder=tmp_path, n_runners=2, strategy=InThreads).fit(lambda task: 1.0, ["a"])
    assert made == [2]


def test_lines_that_agents_print_at_once_do_not_mix(start: Start) -> None:
    training = start(
        fit="def agent(task):\n"
        "    print('one', 'line', 'of', task)\n"
        "    return 1.0\n"
        "agl.Trainer(n_runners=4, strategy='processes').fit(agent, ['mine'] * 60)"
    )
    assert training.finish() == 0
    assert training.output.count("one line of mine\n") == 61


def test_tracer_and_runner_reach_every_process(start: Start) -> None:
    training = start(
        fit="class Mine(agl.Tracer): pass\n"
        "class Runner(agl.LitAgentRunner): pass\n"
        "class Agent(agl.LitAgent):\n"
        "    def rollout(self, task, resources, rollout):\n"
        "        print('KNOWS', type(self.tracer).__name__, type(self.runner).__name__, self.trainer.n_runners)\n"
        "        return 1.0\n"
        "agl.Trainer(tracer=Mine, runner=Runner, n_runners=2, strategy='processes').fit(Agent(), ['a', 'b'])"
    )
    assert training.finish() == 0
    assert training.output.count("KNOWS Mine Runner 2\n") == 3


@pytest.mark.parametrize("what", ["trainer", "runner", "tracer"])
def test_an_agent_outside_of_training_says_what_it_does_not_know_and_who_sets_it(what: str) -> None:
    with pytest.raises(agl.AgentError, match=r"the agent Agent has no \w+: .* sets it"):
        getattr(Agent(), what)


def test_an_agent_does_not_keep_its_trainer_and_is_pickled_without_it() -> None:
    agent = Agent()
    agent.set_trainer(trainer := agl.Trainer())
    assert agent.get_trainer() is trainer
    with pytest.raises(agl.AgentError, match="no longer has its trainer"):
        pickle.loads(pickle.dumps(agent)).get_trainer()
    del trainer
    with pytest.raises(agl.AgentError, match="no longer has its trainer"):
        agent.get_trainer()


class Named:
    def __init__(self, name: str) -> None:
        self.name = name


class NamedAgent(agl.LitAgent[str], Named):
    """An agent that another base makes something of, too."""


@dataclass(frozen=True)
class FrozenAgent(agl.LitAgent[str]):
    """An agent of which nothing can be set."""

    name: str


@pytest.mark.parametrize("kind", [NamedAgent, FrozenAgent])
def test_an_agent_of_any_class_can_be_told_its_trainer(kind: Any) -> None:
    agent, trainer = kind("me"), agl.Trainer()
    agent.set_trainer(trainer)
    assert (agent.name, agent.trainer) == ("me", trainer)


def test_trained_agents_narrow_the_adapter_for_the_fit_alone(store_address: str, tmp_path: Path) -> None:
    matched = []

    @agl.algo
    def looking(adapter: Any, train_dataset: Any) -> None:
        matched.append(adapter.agent_match)

    trainer = trainer_in_threads(store_address, tmp_path, algorithm=looking, adapter="TracerTraceToTriplet")
    trainer.fit(Agent(trained_agents="writer"), ["a"])
    trainer.fit(Agent(), ["a"])
    assert matched == ["writer", None]


def test_trained_agents_against_the_adapters_own_match_are_refused() -> None:
    with pytest.raises(agl.TrainerError, match=r"agent_match is 'a' and trained_agents of the agent"):
        agl.Trainer(adapter={"agent_match": "a"}).fit(Agent(trained_agents="b"), ["a"])


def test_without_an_algorithm_the_datasets_are_run_once_and_counted(store_address: str, tmp_path: Path) -> None:
    def agent(task: str) -> float:
        if task == "bad":
            raise ValueError("no room at the inn")
        return 1.0

    result = trainer_in_threads(store_address, tmp_path).fit(agent, ["a", "bad"], val_dataset=["c"])
    assert result.rollouts == 3
    assert result.statuses == {"succeeded": 2, "failed": 1, "cancelled": 0}
    assert result.retried == 0


def test_a_rollout_that_was_tried_again_is_counted_as_retried(store_address: str, tmp_path: Path) -> None:
    tried: list[str] = []

    def agent(task: str) -> float:
        tried.append(task)
        if tried.count("b") == 1:
            raise ValueError("at first")
        return 1.0

    @agl.algo
    async def once(store: Any, train_dataset: Any) -> None:
        config = agl.RolloutConfig(max_attempts=2, retry_condition=["failed"])
        await store.wait_for_rollouts([(await store.enqueue_rollout("b", config=config)).rollout_id])

    result = trainer_in_threads(store_address, tmp_path, algorithm=once).fit(agent, ["a"])
    assert (result.statuses["succeeded"], result.retried) == (1, 1)


def test_a_result_tells_a_person_what_came_of_the_run(store_address: str, tmp_path: Path) -> None:
    result = trainer_in_threads(store_address, tmp_path).fit(lambda task: 0.5, ["a", "b"])
    lines = str(result).splitlines()
    assert re.fullmatch(rf"run {result.run_id}: 2 rollouts \(2 succeeded\) in \d+ s", lines[0])
    assert lines[1:] == ["train: mean reward 0.50", f"see it again: agl runs show {result.run_id}"]


def test_a_notebook_shows_what_is_printed() -> None:
    class Page:
        shown = ""

        def text(self, text: str) -> None:
            self.shown += text

    result = agl.TrainResult("run-1", None, Path("p.txt"), 0.5, 0.75, 0.25, 0.5, 4, 2, 1.0, {})
    result._repr_pretty_(page := Page(), False)
    assert page.shown == str(result)
    assert page.shown.splitlines() == [
        "run run-1: 4 rollouts + 2 on the test split in 1 s",
        "validation: 0.50 with the first resources, 0.75 with the best",
        "test: 0.25 with the first resources, 0.50 with the best",
        "best prompt: agl.PromptTemplate.load('p.txt')",
        "see it again: agl runs show run-1",
    ]


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def test_the_embedded_store_listens_at_the_port_that_was_asked_for(tmp_path: Path, port: int) -> None:
    with EmbeddedStore(tmp_path, port=port) as store:
        assert store.address.endswith(f":{port}")
        with EmbeddedStore(tmp_path, port=port) as joined:
            assert joined.address == store.address
        with pytest.raises(StoreUnavailableError, match=f"port is 1, but .* is being served at {store.address}"):
            EmbeddedStore(tmp_path, port=1).start()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StoreUnavailableError, match=f"cannot listen on .*:{port}: the port is taken"):
            agl.Trainer(folder=tmp_path, port=port).fit(lambda task: 1.0, ["a"])


def test_a_store_is_kept_in_the_file_that_is_named(tmp_path: Path) -> None:
    agl.Trainer(store=tmp_path / "mine.db", folder=tmp_path, strategy="threads").fit(lambda task: 1.0, ["a"])
    assert (tmp_path / "mine.db").exists()
    assert not (tmp_path / "store.db").exists()


def test_two_databases_of_one_folder_have_a_server_each(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path) as first, EmbeddedStore(tmp_path, name="mine.db") as second:
        assert first.address != second.address
    assert (tmp_path / "store.db").exists()
    assert (tmp_path / "mine.db").exists()
