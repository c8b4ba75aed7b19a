from collections.abc import Callable
from typing import Any

import pytest
from agentlightning import AlgorithmError, LightningStore, PromptTemplate, TraceToMessages
from agentlightning.testing import ChatReply, ChatRequest, OpenAIServer
from agentlightning_algorithms import APO
from openai import AsyncOpenAI

CLIENT = AsyncOpenAI(api_key="none")
TASKS = [f"{rule} {number}" for number in range(5) for rule in ("north", "south", "east", "west")]


async def test_a_race_leaves_its_best_prompt_in_the_run(
    store: LightningStore, working: Callable[..., Any], answer: Callable[[ChatRequest], ChatReply]
) -> None:
    run = await store.create_run("test")
    with OpenAIServer(answer) as server:
        async with AsyncOpenAI(api_key="none", base_url=server.base_url) as client:
            algorithm = APO[str](client, selection="race")
            algorithm.set_store(store.bind(run_id=run.run_id))
            algorithm.set_run(run)
            algorithm.set_adapter(TraceToMessages())
            algorithm.set_initial_resources({"prompt": PromptTemplate(template="Go: {task}.")})
            async with working(lambda prompt, task: 1.0 if task.split()[0] in prompt else 0.0):
                await algorithm.run(TASKS[:8], TASKS[8:])
    assert algorithm.get_best_prompt().template != "Go: {task}."
    kept = await store.get_run(run.run_id)
    assert kept is not None and kept.summary["best_version"] == algorithm.summary()["best_version"] != "v0"
    assert algorithm.get_best_resources() == {"prompt": algorithm.get_best_prompt()}


@pytest.mark.parametrize(
    ("selection", "parameter"),
    [("race", {"beam_width": 4}), ("race", {"run_initial_validation": False}), ("full", {"z": (1.0, 2.0)})],
)
def test_a_parameter_that_has_no_effect_is_refused_by_its_name(selection: str, parameter: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(parameter))} has no effect with selection='{selection}'"):
        APO(CLIENT, selection=selection, **parameter)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("minibatch_size", 0),
        ("proposals", 1.5),
        ("z", (2.0, 1.0)),
        ("blocks", (1, 3)),
        ("finals_share", 1.0),
        ("components", "prompt"),
        ("leaks", "shout"),
        ("rollout_batch_timeout", 0),
    ],
)
def test_a_parameter_that_can_not_be_is_refused_by_its_name(parameter: str, value: object) -> None:
    with pytest.raises(ValueError, match=parameter):
        APO(CLIENT, selection="race", **{parameter: value})  # type: ignore[arg-type]


def test_an_unknown_selection_is_refused() -> None:
    with pytest.raises(ValueError, match="selection must be 'full' or 'race', not 'half'"):
        APO(CLIENT, selection="half")  # type: ignore[arg-type]


@pytest.mark.parametrize(("train", "val", "rollouts"), [(29, 28, 228), (29, 100, 516), (500, 500, 1000), (1, 1, 8)])
def test_without_a_budget_the_size_of_a_race_follows_from_that_of_the_data(train: int, val: int, rollouts: int) -> None:
    assert APO(CLIENT, selection="race").estimate(train, val).rollouts == rollouts


async def test_a_race_needs_a_prompt_template(store: LightningStore) -> None:
    algorithm = APO[str](CLIENT, selection="race")
    algorithm.set_store(store)
    with pytest.raises(AlgorithmError, match="APO tunes"):
        await algorithm.run(TASKS, TASKS)
