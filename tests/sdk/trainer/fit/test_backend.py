"""`fit` for a server elsewhere, and `dev` of one task: the early API of the Trainer, in threads of this process."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.testing import TemporaryStore
from agentlightning.trainer.fit import backend

Fit = Callable[[str], Any]


class Worker(agl.LitAgent[dict[str, Any]]):
    """An agent as the early API has it."""

    def training_rollout(self, task: dict[str, Any], rollout_id: str, resources: dict[str, agl.AgentResource]) -> float:
        if "error" in task:
            raise ValueError(task["error"])
        return float(len(resources["system_prompt"].format(**task)))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "GONE_SECONDS", 0.5)


@pytest.mark.parametrize(
    "fit",
    [
        lambda address: agl.Trainer(n_workers=2, strategy="threads").fit(Worker(), address),
        lambda address: agl.Trainer(n_workers=2, strategy="threads").fit(Worker(), backend=address),
        lambda address: agl.Trainer(n_workers=2, strategy="threads", backend=address).fit(Worker()),
    ],
    ids=["as the second argument", "by name", "of the trainer"],
)
def test_a_trainer_works_for_a_backend_until_that_is_gone(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    with TemporaryStore() as store:
        address = f"http://{store.address}"
        fitting = threading.Thread(target=fit, args=[address])
        fitting.start()
        assert asyncio.run(rewards(address, [{"x": "a"}, {"x": "bc"}])) == [1.0, 2.0]
    fitting.join(timeout=30)
    assert not fitting.is_alive()
    assert capsys.readouterr().out.endswith(f"the store at {address} is gone for 0.5 s, so its runners end\n")


async def rewards(address: str, tasks: list[dict[str, str]]) -> list[float | None]:
    store = agl.LightningStoreClient(address)
    await store.add_resources({"system_prompt": "{x}"})
    queued = [await store.enqueue_rollout(task, "train") for task in tasks]
    ended = await store.wait_for_rollouts([rollout.rollout_id for rollout in queued])
    await store.close()
    return [rollout.final_reward for rollout in ended]


def test_a_backend_that_never_answers_is_an_error() -> None:
    with pytest.raises(agl.StoreUnavailableError, match="no store answers at localhost:1 "):
        agl.Trainer(strategy="threads").fit(Worker(), "http://localhost:1")


@agl.algo
async def one_prompt(store: agl.LightningStore) -> None:
    await store.add_resources({"system_prompt": "{x}"})
    rollout = await store.enqueue_rollout({"x": "abc"}, "train")
    [ended] = await store.wait_for_rollouts([rollout.rollout_id])
    assert ended.final_reward == 3.0


def test_with_an_algorithm_the_backend_is_the_store_to_train_with(store_address: str, tmp_path: Path) -> None:
    trainer = agl.Trainer(strategy="threads", folder=tmp_path)
    result = trainer.fit(Worker(), f"http://{store_address}", one_prompt)
    assert result is not None
    run = asyncio.run(agl.LightningStoreClient(store_address).get_run(result.run_id))
    assert run is not None
    assert (run.algorithm, run.status) == ("one_prompt", "succeeded")
    assert trainer.algorithm is not one_prompt


def test_with_a_dataset_the_backend_is_the_store_to_train_with(store_address: str, tmp_path: Path) -> None:
    trainer = agl.Trainer(
        strategy="threads", folder=tmp_path, backend=store_address, initial_resources={"system_prompt": "{x}"}
    )
    result = trainer.fit(Worker(), [{"x": "abc"}])
    assert result.rollouts == 1
    assert not (tmp_path / "store.db").exists()


async def test_one_task_is_tried_in_this_process(store_address: str) -> None:
    rollout = await agl.Trainer(n_workers=1, backend=store_address).dev(
        agent=Worker(), task={"x": "abcd"}, resources={"system_prompt": "{x}"}
    )
    assert (rollout.final_reward, rollout.task, rollout.mode) == (4.0, {"x": "abcd"}, "train")
    assert rollout.resources == {"system_prompt": agl.PromptTemplate(template="{x}")}
    assert rollout.traces[0]["name"] == "agentlightning.rollout"


async def test_what_the_agent_raises_for_one_task_is_raised(store_address: str) -> None:
    with pytest.raises(ValueError, match="no room at the inn"):
        await agl.Trainer(store=store_address).dev(Worker(), task={"error": "no room at the inn"}, resources={})
