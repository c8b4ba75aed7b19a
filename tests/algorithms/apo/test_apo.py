import hashlib
import json
import logging
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from agentlightning import AlgorithmError, Failure, LightningStore, PromptTemplate, Rollout, TraceToMessages
from agentlightning.algorithm import Budget, Estimate
from agentlightning.testing import ChatReply, ChatRequest
from agentlightning_algorithms.apo import APO
from openai import AsyncOpenAI

Optimize = Callable[..., Awaitable[APO[str]]]
Answer = Callable[[ChatRequest], ChatReply]


def is_edit(request: ChatRequest) -> bool:
    return "<critique>" in request.messages[0]["content"]


def editing(edit: Callable[[ChatRequest], str], critique: str = "Mention the rules.") -> Answer:
    """Models whose critique is always the same."""
    return lambda request: ChatReply(edit(request) if is_edit(request) else critique)


def new(algorithm: APO[str]) -> list[dict[str, Any]]:
    """What came of the branches, in their order."""
    candidates: list[dict[str, Any]] = algorithm.summary()["candidates"]
    return candidates[1:]


async def of_agent(store: LightningStore) -> list[Rollout]:
    """The rollouts but for the calls of critic and editor."""
    return [rollout for rollout in await store.query_rollouts() if rollout.labels.get("kind") != "optimizer"]


def without_ids(summary: dict[str, Any]) -> dict[str, Any]:
    candidates = [{**candidate, "resources_id": None} for candidate in summary["candidates"]]
    return {**summary, "candidates": candidates}


class NoisyAgent:
    """Answers by chance, and the chance depends on how often the very same was asked before."""

    def __init__(self) -> None:
        self.seen: Counter[tuple[str, str]] = Counter()

    def __call__(self, prompt: str, task: str) -> float:
        self.seen[prompt, task] += 1
        return hashlib.sha256(f"{prompt} {task} {self.seen[prompt, task]}".encode()).digest()[0] / 255


async def test_the_tutorial_costs_229_rollouts_and_16_calls_as_estimated(
    optimize: Optimize, store: LightningStore
) -> None:
    progress: list[tuple[str, int, int]] = []
    calls: list[ChatRequest] = []

    def answer(request: ChatRequest) -> ChatReply:
        calls.append(request)
        return ChatReply(f"Go: {{task}}. {request.digest}")

    algorithm = await optimize(answer=answer, on_progress=lambda *report: progress.append(report))
    assert algorithm.estimate(28, 29) == Estimate(rollouts=229, optimizer_calls=16)
    assert (len(await of_agent(store)), len(calls)) == (229, 16)
    assert (algorithm.summary()["rollouts"], algorithm.summary()["optimizer_calls"]) == (229, 16)
    assert [done for _, done, _ in progress] == list(range(1, 230))
    told = algorithm.summary()["optimizer_tokens"]
    assert {model: counts["calls"] for model, counts in told.items()} == {"gpt-5-mini": 8, "gpt-4.1-mini": 8}
    assert all(counts["input_tokens"] > 0 and counts["output_tokens"] > 0 for counts in told.values())
    assert {total for _, _, total in progress} == {229}


def test_the_defaults_cost_1220_rollouts_and_96_calls_on_the_same_data() -> None:
    assert APO(AsyncOpenAI(api_key="none")).estimate(28, 29) == Estimate(rollouts=1220, optimizer_calls=96)


async def test_small_datasets_make_small_batches(optimize: Optimize) -> None:
    algorithm = await optimize(train=["north 0", "south 1"], val=["north 2", "south 3", "east 4"])
    assert algorithm.summary()["rollouts"] == algorithm.estimate(2, 3).rollouts == 58


async def test_the_prompt_gets_better(optimize: Optimize, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "agentlightning.algorithm.apo"):
        algorithm = await optimize()
    summary = algorithm.summary()
    assert summary["baseline_score"] == 0.0
    assert summary["best_score"] > 0.4
    assert [result["best_score"] for result in summary["rounds"]] == sorted(
        result["best_score"] for result in summary["rounds"]
    )
    best = algorithm.get_best_prompt()
    assert best.placeholders == {"task"}
    assert any(candidate["template"] == best.template for candidate in summary["candidates"])
    log = caplog.text
    for line in (
        "Evaluating seed prompt on validation dataset before optimization...",
        "Seed prompt baseline score: 0.000",
        "Round 1/2...",
        "[Round 01 | Beam 01 | Branch 02 | Prompt v2] New prompt template created from parent v0: v2",
        "Evaluating 5 candidates on validation dataset",
        "Beam leader score: ",
        f"Best prompt updated. New best score: {summary['best_score']:.3f} (prev: ",
    ):
        assert line in log


async def test_versions_are_kept_with_the_other_resources_and_the_run(
    optimize: Optimize, store: LightningStore
) -> None:
    run = await store.create_run("APO")
    algorithm = await optimize(run=run)
    kept = await store.get_run(run.run_id)
    summary = algorithm.summary()
    ids = {candidate["version"]: candidate["resources_id"] for candidate in summary["candidates"]}
    assert kept is not None
    assert kept.best_resources_id == ids[summary["best_version"]]
    assert kept.summary["best_score"] == summary["best_score"]
    best = await store.get_resources_by_id(kept.best_resources_id)
    assert best is not None
    assert best.resources == algorithm.get_best_resources()
    assert set(best.resources) == {"model", "prompt", "second"}
    assert best.resources["prompt"] == algorithm.get_best_prompt()
    assert len({rollout.resources_id for rollout in await of_agent(store)}) == len(ids)


async def test_a_summary_is_json_and_tells_every_candidate_and_its_descent(optimize: Optimize) -> None:
    algorithm = await optimize()
    summary = json.loads(json.dumps(algorithm.summary()))
    assert [candidate["version"] for candidate in summary["candidates"]] == [f"v{number}" for number in range(9)]
    assert [candidate["parent"] for candidate in summary["candidates"][:5]] == [None, "v0", "v0", "v0", "v0"]
    assert summary["rounds"][0]["parents"] == ["v0", "v0"]
    assert sorted(summary["rounds"][1]["parents"]) == sorted(kept["version"] for kept in summary["rounds"][0]["beam"])
    assert summary["settings"]["beam_width"] == 2
    assert summary["settings"]["seed"] == 0


async def test_a_summary_tells_when_the_best_changed_and_when_each_candidate_was_made(optimize: Optimize) -> None:
    summary = (await optimize()).summary()
    first, *_, last = summary["curve"]
    assert first == {"rollouts": 29, "cost": None, "version": "v0", "score": summary["baseline_score"]}
    assert last == {"rollouts": 229, "cost": None, "version": summary["best_version"], "score": summary["best_score"]}
    made = {candidate["version"]: candidate["at_rollouts"] for candidate in summary["candidates"]}
    assert (made["v0"], made["v1"]) == (0, 45)


async def test_a_seed_fixes_the_run_whatever_ends_first(optimize: Optimize) -> None:
    runs = [await optimize(NoisyAgent(), gradient_batch_size=20, seed=seed, is_new=True) for seed in (3, 3, 4)]
    first, second, other = (without_ids(algorithm.summary()) for algorithm in runs)
    assert first == second
    assert first != other


@pytest.mark.parametrize("rollouts", [100])
async def test_a_budget_ends_a_run_with_what_it_found_and_a_larger_one_goes_on_as_if_nothing_had_been(
    optimize: Optimize, store: LightningStore, rollouts: int
) -> None:
    stopped = await optimize(budget=Budget(rollouts=rollouts))
    assert stopped.summary()["stopped_by"] == f"the budget of {rollouts} rollouts"
    assert len(await of_agent(store)) <= rollouts
    resumed, undisturbed = await optimize(), await optimize(is_new=True)
    assert len(await of_agent(store)) == 229
    assert without_ids(resumed.summary()) == without_ids(undisturbed.summary())


async def test_the_same_prompt_is_never_tried_twice_on_a_task_at_once(
    optimize: Optimize, store: LightningStore
) -> None:
    await optimize(gradient_batch_size=10, train=[f"north {index}" for index in range(15)])
    tries: dict[tuple[str | None, str], list[tuple[float, float | None]]] = defaultdict(list)
    for rollout in await of_agent(store):
        tries[rollout.resources_id, rollout.input].append((rollout.start_time, rollout.end_time))
    repeated = [sorted(times) for times in tries.values() if len(times) > 1]
    assert repeated
    for times in repeated:
        for (_, ended), (started, _) in pairwise(times):
            assert ended is not None and ended <= started


async def test_equal_requests_are_made_in_the_order_of_the_branches(optimize: Optimize, tmp_path: Path) -> None:
    (tmp_path / "editor.txt").write_text("$prompt_template $critique")
    algorithm = await optimize(
        answer=editing(lambda request: f"{request.occurrence} {{task}}"),
        apply_edit_prompt_files=[tmp_path / "editor.txt"],
        beam_rounds=1,
    )
    assert [branch["template"] for branch in new(algorithm)] == ["0 {task}", "1 {task}", "2 {task}", "3 {task}"]


async def test_the_critic_sees_the_prompt_and_each_rollout_with_its_last_conversation(optimize: Optimize) -> None:
    seen: list[str] = []

    def answer(request: ChatRequest) -> ChatReply:
        if not is_edit(request):
            seen.append(request.messages[0]["content"])
        return ChatReply(f"{{task}} {request.digest}")

    def agent(prompt: str, task: str) -> float | Failure:
        return 0.5 if task == "north 0" else Failure(kind="agent", type="KeyError", message="'date'")

    await optimize(agent, answer, train=["north 0", "south 1"], val=["north 0"], beam_rounds=1)
    conversation = '[{"role": "user", "content": "Go: {task}."}, {"role": "assistant", "content": "came to %s"}]'
    assert "<prompt_template>\nGo: {task}.\n</prompt_template>" in seen[0]
    assert f'status="succeeded" reward="0.5">\n{conversation % 0.5}\n</rollout>' in seen[0]
    assert 'status="failed" reward="0.0">\n[{"role"' in seen[0]
    assert "]\n<error>KeyError: 'date'</error>\n</rollout>" in seen[0]
    assert '<rollout number="1" ' in seen[0]
    assert '<rollout number="2" ' in seen[0]


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        ("Go.", "the placeholder 'task' is lost"),
        ("Go: {task} {date}", "the placeholder 'date' is invented"),
        ("Go: {task", "not well-formed"),
        ("", "the template is empty"),
        ("Go: {task}.", "the template is the same as v0"),
    ],
)
async def test_an_edit_that_cannot_be_tried_is_sent_back_once_and_then_dropped(
    optimize: Optimize, store: LightningStore, edit: str, fault: str
) -> None:
    requests: list[str] = []

    def edited(request: ChatRequest) -> str:
        requests.append(request.messages[0]["content"])
        return edit

    algorithm = await optimize(answer=editing(edited), beam_rounds=1)
    repairs = [request for request in requests if "<rejected " in request]
    assert (len(requests), len(repairs)) == (8, 4)
    assert all(f"\n{edit}\n</rejected>" in repair and fault in repair for repair in repairs)
    assert all(fault in branch["dropped"] for branch in new(algorithm))
    assert {branch["resources_id"] for branch in new(algorithm)} == {None}
    assert algorithm.summary()["dropped_branches"] == 4
    assert algorithm.get_best_prompt() == PromptTemplate(template="Go: {task}.")
    assert len(await of_agent(store)) == 29 + 16 + 10 + 29


async def test_an_edit_that_was_sent_back_may_come_back_better(optimize: Optimize) -> None:
    def edited(request: ChatRequest) -> str:
        repair = "<rejected " in request.messages[0]["content"]
        text = f"Go: {{task}}. {request.digest} {request.occurrence}" if repair else "Go."
        return f"```\n{text}\n```"

    algorithm = await optimize(answer=editing(edited), beam_rounds=1)
    assert [branch["dropped"] for branch in new(algorithm)] == [None] * 4
    assert algorithm.summary()["optimizer_calls"] == 12


async def test_the_same_edit_is_tried_once(optimize: Optimize) -> None:
    algorithm = await optimize(answer=editing(lambda request: "Now go: {task}"), beam_rounds=1)
    assert [branch["dropped"] for branch in new(algorithm)] == [None, *["the edit is the same as v1"] * 3]


async def test_a_branch_without_a_critique_is_dropped(optimize: Optimize) -> None:
    def answer(request: ChatRequest) -> ChatReply:
        assert not is_edit(request)
        return ChatReply("  ")

    algorithm = await optimize(answer=answer, beam_rounds=1)
    assert {branch["dropped"] for branch in new(algorithm)} == {"the critique is empty"}


async def test_a_model_that_fails_costs_a_branch(optimize: Optimize, caplog: pytest.LogCaptureFixture) -> None:
    failed: list[str] = []

    def answer(request: ChatRequest) -> ChatReply:
        if not failed:
            failed.append(request.digest)
            raise RuntimeError("overloaded")
        return ChatReply(f"{{task}} {request.digest}")

    algorithm = await optimize(answer=answer, beam_rounds=1)
    (reason,) = [branch["dropped"] for branch in new(algorithm) if branch["dropped"]]
    assert "overloaded" in reason
    assert [record.levelname for record in caplog.records if "overloaded" in record.message] == ["ERROR"]


async def test_models_that_never_answer_end_the_run(optimize: Optimize) -> None:
    def answer(request: ChatRequest) -> ChatReply:
        raise ValueError("no such model")

    with pytest.raises(AlgorithmError, match=r"none of the 4 branches.*no such model.*gpt-5-mini"):
        await optimize(answer=answer)


async def test_what_the_infrastructure_loses_is_not_a_zero(optimize: Optimize) -> None:
    def agent(prompt: str, task: str) -> float | Failure:
        lost = task.startswith(("north", "south"))
        return Failure(kind="infrastructure", message="lost") if lost else 1.0

    algorithm = await optimize(agent, beam_rounds=1)
    assert algorithm.summary()["baseline_score"] == 1.0
    assert algorithm.summary()["best_score"] == 1.0


async def test_rewards_that_are_missing_end_the_run(optimize: Optimize) -> None:
    with pytest.raises(AlgorithmError, match="none of the 29 rollouts that succeeded has a reward"):
        await optimize(lambda prompt, task: None)


async def test_nothing_is_criticised_without_traces(optimize: Optimize) -> None:
    def answer(request: ChatRequest) -> ChatReply:
        raise AssertionError("a model was asked")

    with pytest.raises(AlgorithmError, match="the tracer recorded no call of a language model"):
        await optimize(answer=answer, traced=False)


async def test_the_engine_of_the_template_is_kept(optimize: Optimize) -> None:
    prompt = PromptTemplate(template="Go: {{ task }}.", engine="jinja")
    algorithm = await optimize(prompt=prompt)
    assert algorithm.summary()["best_version"] != "v0"
    assert algorithm.get_best_prompt().engine == "jinja"


async def test_without_initial_validation_the_first_leader_is_the_best(optimize: Optimize) -> None:
    algorithm = await optimize(run_initial_validation=False)
    assert algorithm.summary()["baseline_score"] is None
    assert algorithm.summary()["rollouts"] == algorithm.estimate(28, 29).rollouts == 200
    assert algorithm.get_best_prompt().template != "Go: {task}."


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beam_width": 0}, "beam_width must be a whole number of at least 1, not 0"),
        ({"val_batch_size": 2.5}, "val_batch_size must be a whole number of at least 1, not 2.5"),
        ({"rollout_batch_timeout": 0}, "rollout_batch_timeout must be more than 0 seconds, not 0"),
        ({"diversity_temperature": -1.0}, "diversity_temperature must not be negative: -1.0"),
        ({"gradient_prompt_files": []}, "no prompt file is given"),
        ({"apply_edit_prompt_files": ["nowhere.txt"]}, "cannot read the prompt file 'nowhere.txt'"),
    ],
)
def test_parameters_are_checked_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        APO(AsyncOpenAI(api_key="none"), **settings)


class Forbidden:
    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was used")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ({"resources": {}}, "the initial resources have none, only nothing"),
        ({"train": None}, "train_dataset, but it is missing"),
        ({"val": []}, "val_dataset, but it is empty"),
        ({"adapter": None}, "no adapter"),
        ({"store": None}, "no store"),
    ],
)
async def test_what_it_needs_is_checked_before_anything_is_spent(missing: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "resources": {"prompt": PromptTemplate(template="Go: {task}")},
        "train": ["a"],
        "val": ["a"],
        "adapter": TraceToMessages(),
        "store": Forbidden(),
        **missing,
    }
    algorithm = APO[str](AsyncOpenAI(api_key="none"))
    algorithm.set_initial_resources(given["resources"])
    if given["store"]:
        algorithm.set_store(given["store"])
    if given["adapter"]:
        algorithm.set_adapter(given["adapter"])
    with pytest.raises(AlgorithmError, match=message):
        await algorithm.run(given["train"], given["val"])


def test_before_a_run_there_is_no_best_prompt() -> None:
    algorithm = APO[str](AsyncOpenAI(api_key="none"))
    with pytest.raises(AlgorithmError, match="No best prompt found"):
        algorithm.get_best_prompt()
    assert algorithm.get_best_resources() is None
    assert algorithm.summary() == {}
