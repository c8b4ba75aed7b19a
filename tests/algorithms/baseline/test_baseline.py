import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from agentlightning import AlgorithmError, Failure, LightningStore
from agentlightning.algorithm import Estimate
from agentlightning_algorithms.baseline import Baseline

Working = Callable[..., AbstractAsyncContextManager[None]]


def agent(prompt: str, task: Any) -> float | Failure:
    return task / 2 if task < 3 else Failure(kind="agent", type="ValueError", message="too much")


async def test_every_task_is_done_once_an_epoch_and_logged(
    store: LightningStore, working: Working, caplog: pytest.LogCaptureFixture
) -> None:
    algorithm = Baseline(n_epochs=2, max_queue_length=2)
    algorithm.set_store(store)
    with caplog.at_level(logging.INFO, "agentlightning.algorithm.baseline"):
        async with working(agent):
            await algorithm.run([0, 1, 2], [1, 3])
    assert algorithm.estimate(3, 2) == Estimate(rollouts=10)
    assert algorithm.summary() == {
        "train": {"statuses": {"succeeded": 6}, "mean_reward": 0.5},
        "val": {"statuses": {"succeeded": 2, "failed": 2}, "mean_reward": 0.25},
    }
    lines = [record.getMessage() for record in caplog.records if "[Rollout ro-" in record.getMessage()]
    assert len(lines) == 10
    assert sum("Finished with status failed" in line and "ValueError: too much" in line for line in lines) == 2
    assert sum("Finished with status succeeded" in line and "Reward: 1.0" in line for line in lines) == 2


async def test_the_agent_is_given_the_initial_resources(store: LightningStore, working: Working) -> None:
    prompts: list[str] = []
    algorithm = Baseline()
    algorithm.set_store(store)
    algorithm.set_initial_resources({"prompt": "Hi"})
    async with working(lambda prompt, task: prompts.append(prompt)):
        await algorithm.run(val_dataset=["a"])
    assert prompts == ["Hi"]
    assert algorithm.summary()["val"] == {"statuses": {"succeeded": 1}, "mean_reward": None}


async def test_without_tasks_it_says_so() -> None:
    with pytest.raises(AlgorithmError, match="there are no tasks"):
        await Baseline().run([], None)


@pytest.mark.parametrize("parameters", [{"n_epochs": 0}, {"max_queue_length": 0}])
def test_parameters_are_checked_by_name(parameters: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(parameters))} must be at least 1"):
        Baseline(**parameters)
