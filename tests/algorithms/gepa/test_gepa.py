import asyncio
import contextlib
import doctest
import sys
import threading
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import agentlightning as agl
import pytest
from agentlightning import GEPA, AlgorithmError, Failure, LightningStore, PromptTemplate, Rollout
from agentlightning.testing import ChatReply, ChatRequest, OpenAIServer
from openai import AsyncOpenAI, OpenAI

from .conftest import MODEL, RULES, SEED, TRAIN, VAL, Optimize, add_a_rule, add_all_rules, follows_rules, text_of

pytest.importorskip("gepa", reason='the extra is not installed: pip install "agl-protocol[gepa]"')

CLIENT = AsyncOpenAI(api_key="none")
SCHEMA = {
    *("selection", "settings", "seed", "baseline_score", "best_score", "best_version", "rollouts", "optimizer_calls"),
    *("stopped_by", "failures", "candidates", "curve", "decisions", "tasks", "holdout", "optimizer_tokens"),
}


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name in ("bridge", "reflection")]


async def test_it_finds_the_prompt_that_does_all_tasks(optimize: Optimize) -> None:
    algorithm = await optimize()
    assert all(rule in algorithm.get_best_prompt().template for rule in RULES)
    assert algorithm.summary()["best_score"] == 1.0


async def test_what_is_not_tuned_is_carried_along(optimize: Optimize) -> None:
    best = (await optimize()).get_best_resources()
    assert best is not None
    assert best["model"] == MODEL


async def test_it_ends_when_nothing_can_be_better(optimize: Optimize) -> None:
    summary = (await optimize(lambda prompt, task: 1.0)).summary()
    assert (summary["rollouts"], summary["stopped_by"]) == (len(VAL), None)


async def rollouts_of(store: LightningStore) -> int:
    """How many there are of the agent: calls of the reflecting model are kept as rollouts, too."""
    calls = await store.query_rollouts(labels={"kind": "optimizer"}, limit=1)
    return (await store.query_rollouts(limit=1)).total - calls.total


async def test_a_run_that_is_begun_again_is_told_what_it_has_and_spends_nothing(
    optimize: Optimize, store: LightningStore
) -> None:
    first = (await optimize(max_rollouts=57)).summary()
    made = (await store.query_rollouts(limit=1)).total
    again = (await optimize(max_rollouts=57)).summary()
    assert (await store.query_rollouts(limit=1)).total == made
    assert again == first


@pytest.mark.parametrize("budget", [22, 40, 57])
async def test_it_never_spends_one_rollout_too_many(optimize: Optimize, store: LightningStore, budget: int) -> None:
    summary = (await optimize(max_rollouts=budget)).summary()
    assert await rollouts_of(store) == summary["rollouts"] <= budget
    assert summary["stopped_by"] == f"the budget of {budget} rollouts"


async def test_a_budget_for_no_other_prompt_is_refused_before_anything_is_spent(
    optimize: Optimize, store: LightningStore
) -> None:
    with pytest.raises(AlgorithmError, match="max_rollouts is 21, but to try one other prompt takes 22"):
        await optimize(max_rollouts=21)
    assert not await store.query_rollouts()


async def test_the_same_seed_and_answers_give_the_same_run(optimize: Optimize) -> None:
    told = [(await optimize(max_rollouts=60, seed=7)).summary() for _ in range(2)]
    for summary in told:
        for candidate in summary["candidates"]:
            del candidate["resources_id"]
    assert told[0] == told[1]


async def test_a_run_can_be_told_from_its_summary(optimize: Optimize) -> None:
    summary = (await optimize()).summary()
    first, second = summary["candidates"][:2]
    assert summary.keys() == SCHEMA
    assert (first["version"], first["parent"], first["score"], first["tasks_scored"]) == ("v0", None, 0.0, len(VAL))
    assert (second["parent"], second["component"], second["step"]) == ("v0", "prompt", "i001")
    assert second["critique"].startswith("Let me see.")
    assert summary["curve"][0] == {"rollouts": len(VAL), "cost": None, "version": "v0", "score": 0.0}
    assert summary["curve"][-1]["rollouts"] == summary["rollouts"]
    assert [task["after"] for task in summary["tasks"]] == [1.0] * len(VAL)
    assert summary["decisions"][-1] == {"step": "end", "kind": "final", "version": "v4", "score": 1.0}


async def test_a_candidate_that_does_no_better_says_so(optimize: Optimize) -> None:
    summary = (
        await optimize(answer=lambda request: ChatReply(f"{text_of(request)} Please."), max_rollouts=30)
    ).summary()
    assert summary["candidates"][1]["dropped"] == "New subsample score 0.0 not better than old score 0.0"
    assert summary["decisions"][0] == {"step": "i001", "kind": "reject", "version": "v1", "before": 0.0, "after": 0.0}


async def test_the_best_so_far_is_kept_with_the_run(optimize: Optimize, store: LightningStore) -> None:
    run = await store.create_run("GEPA")
    algorithm = await optimize(run=run)
    kept = await store.get_run(run.run_id)
    assert kept is not None
    assert kept.summary["best_score"] == 1.0
    assert kept.best_resources_id == algorithm.summary()["candidates"][-1]["resources_id"]


async def test_a_text_that_loses_a_placeholder_is_sent_back_and_then_dropped_before_any_rollout(
    optimize: Optimize, store: LightningStore
) -> None:
    asked: list[str] = []

    def forget(request: ChatRequest) -> ChatReply:
        asked.append(request.messages[0]["content"])
        return ChatReply("```\nJust go.\n```")

    summary = (await optimize(answer=forget, max_rollouts=22)).summary()
    fault = "the placeholder 'task' is lost"
    assert (len(asked), fault in asked[0], fault in asked[1]) == (2, False, True)
    assert summary["candidates"][1]["dropped"] == f"no text that can be tried: {fault}"
    assert summary["candidates"][1]["edit_faults"] == [fault, fault]
    assert not await store.query_rollouts(labels={"prompt": "v1"})


async def test_a_text_that_is_mended_is_tried(optimize: Optimize) -> None:
    def forget_once(request: ChatRequest) -> ChatReply:
        return add_a_rule(request) if "cannot be used" in request.messages[0]["content"] else ChatReply("Just go.")

    summary = (await optimize(answer=forget_once)).summary()
    assert summary["best_score"] == 1.0
    assert summary["optimizer_calls"] == 8


async def test_several_templates_are_tuned_in_turn(optimize: Optimize) -> None:
    resources = {"prompt": SEED, "model": MODEL, "second": PromptTemplate(template="Then: {task}.")}
    summary = (await optimize(resources=resources)).summary()
    assert {candidate["component"] for candidate in summary["candidates"][1:]} == {"prompt", "second"}


async def test_options_reach_the_package(optimize: Optimize) -> None:
    resources = {"prompt": SEED, "second": PromptTemplate(template="Then: {task}.")}
    summary = (await optimize(resources=resources, module_selector="all", max_rollouts=40)).summary()
    assert summary["candidates"][1]["component"] == "prompt, second"


async def test_several_candidates_of_one_iteration_are_told_apart(optimize: Optimize) -> None:
    from gepa.strategies.proposal_sampling import IndependentSampling

    def add_one_of_two(request: ChatRequest) -> ChatReply:
        return add_all_rules(request) if request.number % 2 else ChatReply(f"{text_of(request)} Please.")

    summary = (await optimize(answer=add_one_of_two, sampling_strategy=IndependentSampling(n=2))).summary()
    useless, useful = summary["candidates"][1:]
    assert (useless["step"], useless["score"], useless["dropped"] is None) == ("i001", None, False)
    assert (useful["step"], useful["score"], useful["dropped"]) == ("i001", 1.0, None)
    assert summary["settings"]["options"] == {"sampling_strategy": "IndependentSampling"}


async def test_an_agent_that_fails_scores_nothing(optimize: Optimize) -> None:
    def fail(prompt: str, task: str) -> float | Failure:
        return follows_rules(prompt, task) or Failure(kind="agent", message="lost")

    summary = (await optimize(fail, add_all_rules)).summary()
    assert (summary["baseline_score"], summary["best_score"]) == (0.0, 1.0)
    assert summary["failures"]["agent"] == len(VAL) + 3


async def test_what_the_infrastructure_loses_is_repeated_and_never_scored(optimize: Optimize) -> None:
    deliveries = Counter[tuple[str, str]]()

    def lose_the_first_rollout(prompt: str, task: str) -> float | Failure:
        deliveries[prompt, task] += 1  # A rollout is delivered four times before it is given up.
        return Failure(kind="infrastructure") if deliveries[prompt, task] < 4 and task == VAL[0] else 1.0

    summary = (await optimize(lose_the_first_rollout)).summary()
    assert (summary["baseline_score"], summary["rollouts"]) == (1.0, len(VAL))
    assert deliveries.most_common(1) == [((SEED.template, VAL[0]), 4)]


async def test_what_is_lost_again_and_again_is_an_error_and_no_score(optimize: Optimize) -> None:
    with pytest.raises(AlgorithmError, match="8 of 8 rollouts were lost each time they were delivered"):
        await optimize(lambda prompt, task: Failure(kind="infrastructure", message="no power"))


async def test_an_agent_without_rewards_is_an_error(optimize: Optimize) -> None:
    with pytest.raises(AlgorithmError, match="return a number from the agent"):
        await optimize(lambda prompt, task: None)


async def test_a_model_that_fails_now_and_then_costs_a_proposal(optimize: Optimize) -> None:
    def fail_at_times(request: ChatRequest) -> ChatReply:
        if request.number % 2 == 0:
            raise RuntimeError("overloaded")
        return add_a_rule(request)

    assert (await optimize(answer=fail_at_times)).summary()["best_score"] == 1.0


async def test_a_model_that_never_answers_is_the_error_of_the_run(optimize: Optimize) -> None:
    def fail(request: ChatRequest) -> ChatReply:
        raise ValueError("no such model")

    with pytest.raises(AlgorithmError, match=r"gpt-5-mini did not answer 3 times in a row.*no such model"):
        await optimize(answer=fail)
    assert threads() == []


async def test_rewards_above_the_perfect_score_are_told_of(
    optimize: Optimize, caplog: pytest.LogCaptureFixture
) -> None:
    await optimize(lambda prompt, task: 5.0, max_rollouts=22)
    assert "A reward is 5, and gepa takes one of 1 or more for perfect" in caplog.text


async def test_cancelling_ends_rollouts_and_thread(store: LightningStore) -> None:
    algorithm = GEPA(CLIENT, max_rollouts=50)
    algorithm.set_store(store)
    algorithm.set_adapter(agl.TraceToMessages())
    algorithm.set_initial_resources({"prompt": SEED})
    running = asyncio.create_task(algorithm.run(TRAIN, VAL))  # There are no runners.
    async with contextlib.aclosing(store.watch()) as changes:
        async for change in changes:
            if isinstance(change.object, Rollout):
                break
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert threads() == []
    assert {rollout.status for rollout in await store.query_rollouts()} == {"cancelled"}


async def test_cancelling_waits_for_no_answer_of_the_model(optimize: Optimize) -> None:
    asked, may_answer = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hang(request: ChatRequest) -> ChatReply:
        loop.call_soon_threadsafe(asked.set)
        may_answer.wait()
        return add_a_rule(request)

    running = asyncio.create_task(optimize(answer=hang))
    try:
        await asked.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert threads() == []
    finally:
        may_answer.set()


async def test_a_client_that_blocks_will_do(
    store: LightningStore, working: Callable[..., Any], served: Callable[..., OpenAIServer]
) -> None:
    with OpenAI(api_key="none", base_url=served(add_a_rule).base_url) as client:
        algorithm = GEPA(client, max_rollouts=120)
        algorithm.set_store(store)
        algorithm.set_adapter(agl.TraceToMessages())
        algorithm.set_initial_resources({"prompt": SEED})
        async with working(follows_rules):
            await algorithm.run(TRAIN, None)
    assert algorithm.summary()["best_score"] == 1.0


def test_a_trainer_fits_with_it(tmp_path: Path, served: Callable[..., OpenAIServer]) -> None:
    @agl.rollout
    def agent(task: str, prompt: PromptTemplate) -> float:
        return follows_rules(prompt.template, task)

    with OpenAI(api_key="none", base_url=served(add_all_rules).base_url) as client:
        trainer = agl.Trainer(
            algorithm=GEPA(client, max_rollouts=40),
            initial_resources={"prompt": SEED},
            strategy="threads",
            folder=tmp_path,
        )
        result = trainer.fit(agent, TRAIN, val_dataset=VAL)
    assert (result.baseline_score, result.best_score, result.rollouts) == (0.0, 1.0, 22)


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gepa", None)
    with pytest.raises(AlgorithmError, match=r'pip install "agl-protocol\[gepa\]"'):
        GEPA(CLIENT)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            {"use_murge": True},
            "neither GEPA nor gepa.optimize has a parameter 'use_murge'; gepa.optimize takes .*use_merge",
        ),
        ({"max_metric_calls": 5}, "GEPA sets max_metric_calls of gepa.optimize itself: it is max_rollouts"),
    ],
)
def test_an_option_that_cannot_be_handed_on_is_an_error(option: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        GEPA(CLIENT, **option)


@pytest.mark.parametrize(
    "setting",
    [{"max_rollouts": 0}, {"minibatch_size": 1.5}, {"rollout_batch_timeout": 0.0}, {"candidate_selection": "paretto"}],
)
def test_a_setting_that_cannot_be_is_an_error(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(setting))} must be"):
        GEPA(CLIENT, **setting)


async def test_resources_without_a_template_are_an_error(optimize: Optimize) -> None:
    with pytest.raises(AlgorithmError, match=r"GEPA tunes prompt templates.*only \['model'\]"):
        await optimize(resources={"model": MODEL})


def test_its_example_is_true() -> None:
    outcome = doctest.testmod(import_module("agentlightning_algorithms.gepa.gepa"))
    assert (outcome.attempted > 0, outcome.failed) == (True, 0)
