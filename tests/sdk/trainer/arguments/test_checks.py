"""What a Trainer and `fit` are given: other forms, older names, and what cannot be, each refused by name."""

import logging
from pathlib import Path
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.trainer.runners.execution import ThreadRunners, Work


def test_older_names_mean_what_the_newer_ones_do() -> None:
    adapter = agl.TracerTraceToTriplet()
    trainer = agl.Trainer(n_workers=3, max_tasks=5, triplet_exporter=adapter)
    assert (trainer.n_runners, trainer.max_rollouts, trainer.adapter) == (3, 5, adapter)
    assert (trainer.n_workers, trainer.max_tasks, trainer.triplet_exporter) == (3, 5, adapter)


def test_older_names_make_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    agl.Trainer(n_workers=3, max_tasks=5)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"n_runners": 2, "n_workers": 3}, ["n_runners is 2", "n_workers", "is 3"]),
        ({"max_rollouts": 2, "max_tasks": 3}, ["max_rollouts is 2", "max_tasks", "is 3"]),
        (
            {"adapter": "TraceToMessages", "triplet_exporter": "TracerTraceToTriplet"},
            ["adapter is", "triplet_exporter"],
        ),
        ({"n_runners": 2, "strategy": {"type": "shm", "n_runners": 3}}, ["n_runners is 2", "strategy['n_runners']"]),
        ({"port": 4747, "strategy": {"type": "cs", "server_port": 1}}, ["port is 4747", "strategy['server_port']"]),
        ({"tracer": agl.Tracer(), "instrumentors": []}, ["instrumentors is given beside tracer"]),
        ({"port": 4747, "store": "localhost:4747"}, ["port is 4747", "store is 'localhost:4747'", "leave port out"]),
    ],
)
def test_two_that_mean_the_same_and_differ_are_refused(given: dict[str, Any], names: list[str]) -> None:
    with pytest.raises(agl.TrainerError) as error:
        agl.Trainer(**given)
    assert all(name in str(error.value) for name in names)


def test_two_that_mean_the_same_and_agree_are_taken() -> None:
    assert agl.Trainer(n_runners=3, n_workers=3).n_runners == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_runners": "8"}, "n_runners is '8', expected a whole number of at least 0"),
        ({"n_runners": -1}, "n_runners is -1, expected a whole number of at least 0"),
        ({"n_runners": True}, "n_runners is True, expected a whole number of at least 0"),
        ({"max_rollouts": 0.5}, "max_rollouts is 0.5, expected a whole number of at least 1"),
        ({"port": 70000}, "port is 70000, expected a whole number from 0 to 65535"),
        ({"initial_resources": "Hi {name}"}, "initial_resources is 'Hi {name}', expected a dict"),
        ({"initial_resources": {1: "Hi {name}"}}, "expected a dict from names to resources"),
        ({"folder": 1}, "folder is 1, expected the path of a folder"),
        ({"queue": 1}, "queue is 1, expected the name of a queue"),
        ({"instrumentors": "httpx"}, "instrumentors is 'httpx', expected several names: ['httpx']"),
        ({"llm_proxy": {"port": 4000}}, 'initial_resources={"llm": agl.LLM(endpoint=..., model=...)}'),
        ({"strategy": "ipc"}, "strategy is 'ipc', which is no short name"),
        ({"strategy": "no.such.strategy"}, "which cannot be found (No module named 'no')"),
        ({"strategy": {"type": "cs", "nonsense": 1}}, "in which nothing is known of nonsense"),
        ({"strategy": {"n_runners": 2}}, "strategy is {'n_runners': 2}, a dict without"),
        ({"store": "ftp://x"}, "store is 'ftp://x', which is no address"),
        ({"store": "localhost:http"}, "store is 'localhost:http', which is no address"),
        ({"store": 4747}, "store is 4747, of the type int; expected an address such as 'localhost:4747'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(agl.TrainerError) as error:
        agl.Trainer(**given)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("dataset", "reason"),
    [
        ("tasks.jsonl", "is 'tasks.jsonl', expected tasks in an order"),
        ({"a": 1}, "is {'a': 1}, expected tasks in an order"),
        ({"a"}, "expected tasks in an order"),
        ((task for task in "ab"), "no length or no items by number: give list("),
        (42, "no length or no items by number"),
    ],
    ids=["text", "dict", "set", "generator", "number"],
)
@pytest.mark.parametrize("name", ["train_dataset", "val_dataset", "test_dataset"])
def test_what_is_no_dataset_is_refused_before_anything_starts(name: str, dataset: Any, reason: str) -> None:
    with pytest.raises(agl.TrainerError) as error:
        agl.Trainer().fit(lambda task: 1.0, **{name: dataset})
    assert str(error.value).startswith(name)
    assert reason in str(error.value)


@pytest.mark.parametrize("name", ["train_dataset", "val_dataset"])
def test_dev_refuses_what_is_no_dataset(name: str) -> None:
    with pytest.raises(agl.TrainerError, match=name):
        agl.Trainer().dev(lambda task: 1.0, **{name: "tasks.jsonl"})


@pytest.mark.parametrize("given", [{"dev": True}, {"daemon": True}, {"daemon": False}])
def test_what_has_no_effect_says_in_one_line_that_it_can_go(
    given: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    agl.Trainer(**given)
    [record] = caplog.records
    assert (record.levelno, "has no effect and can go" in record.message) == (logging.WARNING, True)


@pytest.mark.parametrize(
    ("written", "strategy"),
    [("processes", "processes"), ("cs", "processes"), ("threads", "threads"), ("shm", "threads"), (None, None)],
)
def test_a_strategy_goes_by_a_name(written: str | None, strategy: str | None) -> None:
    assert agl.Trainer(strategy=written).strategy == strategy


class InThreads:
    """A strategy of one's own."""

    def __init__(self, extra: int = 0) -> None:
        self.extra = extra

    def runners(self, work: Work, count: int) -> ThreadRunners:
        return ThreadRunners(work, count + self.extra)


@pytest.mark.parametrize(
    "spec",
    [InThreads(1), lambda: InThreads(1), {"type": InThreads, "extra": 1}],
    ids=["object", "function", "dict"],
)
def test_a_strategy_is_an_object_or_what_makes_one(spec: Any) -> None:
    strategy = agl.Trainer(strategy=spec).strategy
    assert isinstance(strategy, InThreads)
    assert strategy.extra == 1


def test_a_class_of_strategies_is_made_one() -> None:
    assert isinstance(agl.Trainer(strategy=InThreads).strategy, InThreads)


def test_a_strategy_in_a_dict_may_say_how_many_runners_and_which_port(caplog: pytest.LogCaptureFixture) -> None:
    trainer = agl.Trainer(strategy={"type": "cs", "n_runners": 4, "server_port": 4747, "main_process": "algorithm"})
    assert (trainer.strategy, trainer.n_runners, trainer.port) == ("processes", 4, 4747)
    [record] = caplog.records
    assert "main_process have no effect" in record.message


def test_a_store_is_a_client_or_what_makes_one() -> None:
    client = agl.LightningStoreClient("localhost:1")
    specs: list[Any] = [client, lambda: client, {"type": "LightningStoreClient", "server_address": "localhost:1"}]
    stores: list[Any] = [agl.Trainer(store=spec).store for spec in specs]
    assert [store.server_address for store in stores] == ["localhost:1"] * 3


@pytest.mark.parametrize("address", ["localhost:4747", "http://localhost:4747", "grpcs://store", "test.host:4747"])
def test_a_store_is_an_address(address: str) -> None:
    assert agl.Trainer(store=address).store == address


def test_a_store_is_a_folder_or_a_database_file(tmp_path: Path) -> None:
    for place in (tmp_path, str(tmp_path), tmp_path / "mine.db", "runs/mine.db", "mine.db"):
        assert agl.Trainer(store=place).store == Path(place)
