import re
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import count
from random import Random
from typing import Any

import pytest
from agentlightning import AlgorithmError, Failure, PromptTemplate, PromptTemplateError
from agentlightning.algorithm import ModelError

Run = Callable[..., Awaitable[tuple[Any, Any]]]

ONE_ROUND = {"rollouts": 110, "finals_share": 0.0, "z": (1.0, 1.0), "blocks": (5, 5)}
"""30 validation tasks are five blocks; what is left after one race does not pay for many others."""


def rewards(scores: dict[str, float], on_val: Callable[[int], float]) -> Callable[[str, Any], float]:
    """The seed comes to 0.5 everywhere; an edit to 1 on train tasks and to what is said on validation tasks."""

    def reward(prompt: str, task: str) -> float:
        split, number = task.split()
        edit = next((score for text, score in scores.items() if text in prompt), None)
        if edit is None:
            return 0.5
        return edit if split == "train" else on_val(int(number))

    return reward


@pytest.mark.parametrize(
    ("on_val", "decision", "pairs"),
    [
        pytest.param(lambda task: 1.0, "accept", 12, id="better everywhere"),
        pytest.param(lambda task: 0.0, "reject", 6, id="worse everywhere"),
        pytest.param(lambda task: 0.5, "reject", 30, id="equal everywhere"),
        pytest.param(lambda task: 0.51, "accept", 30, id="better by less than can be told"),
        pytest.param(lambda task: 0.49, "reject", 30, id="worse by less than can be told"),
    ],
)
async def test_a_race_goes_on_until_it_is_clear_who_is_better(
    race: Run, on_val: Callable[[int], float], decision: str, pairs: int
) -> None:
    agent = rewards({"better": 1.0}, on_val)
    search, lab = await race(agent, {"r01/0/edit": "Do {task} better."}, proposals=1, **ONE_ROUND)
    assert lab.decided("accept", "reject")[0] == (decision, "v1", pairs)
    assert search.best.version == ("v1" if decision == "accept" else "v0")


async def test_a_race_ends_after_some_blocks_however_many_tasks_there_are(race: Run) -> None:
    agent = rewards({"better": 1.0}, lambda task: 0.51)
    _, lab = await race(agent, {"r01/0/edit": "Do {task} better."}, proposals=1, **ONE_ROUND | {"blocks": (3, 3)})
    assert lab.decided("accept") == [("accept", "v1", 18)]


async def test_of_several_that_are_better_the_best_is_taken(race: Run) -> None:
    def agent(prompt: str, task: str) -> float:
        return 0.9 if "best" in prompt else 0.7 if "good" in prompt else 0.5

    edits = {"r01/0/edit": "Do {task}, good.", "r01/1/edit": "Do {task}, best."}
    search, lab = await race(agent, edits, **ONE_ROUND)
    assert lab.decided("accept") == [("accept", "v2", 12)]
    assert search.best.version == "v2"


async def test_of_equals_the_shorter_is_taken(race: Run) -> None:
    def agent(prompt: str, task: str) -> float:
        return 0.9 if "good" in prompt else 0.5

    edits = {"r01/0/edit": "Do {task}, good, good.", "r01/1/edit": "Do {task}, good."}
    search, _ = await race(agent, edits, **ONE_ROUND)
    assert search.best.version == "v2"


async def test_challengers_and_incumbent_are_tried_on_the_same_tasks(race: Run) -> None:
    agent = rewards({"better": 1.0}, lambda task: 1.0)
    edits = {"r01/0/edit": "Do {task} better.", "r01/1/edit": "Do {task} much better."}
    _, lab = await race(agent, edits, **ONE_ROUND)
    assert lab.tried["val/v0"][:12] == lab.tried["val/v1"][:12] == lab.tried["val/v2"][:12]


async def test_a_task_that_the_infrastructure_lost_is_left_out_for_both(race: Run) -> None:
    def agent(prompt: str, task: str) -> float | Failure:
        if task in ("val 3", "val 4"):
            return Failure(kind="infrastructure", message="gone")
        return 1.0 if "better" in prompt else 0.5

    search, lab = await race(agent, {"r01/0/edit": "Do {task} better."}, proposals=1, **ONE_ROUND, val=VAL[:12])
    assert lab.decided("accept") == [("accept", "v1", 10)]
    assert search.summary()["failures"]["infrastructure"] == 4


async def test_a_rollout_that_the_agent_fails_counts_0(race: Run) -> None:
    def agent(prompt: str, task: str) -> float | Failure:
        if "broken" in prompt and task.startswith("val"):
            return Failure(kind="timeout", message="hangs")
        return 1.0 if "broken" in prompt else 0.5

    search, lab = await race(agent, {"r01/0/edit": "Do {task}, broken."}, proposals=1, **ONE_ROUND)
    assert lab.decided("reject") == [("reject", "v1", 6)]
    assert search.summary()["failures"]["timeout"] == 6


async def test_a_seed_without_a_fault_ends_the_search(race: Run) -> None:
    search, lab = await race(lambda prompt, task: 1.0, {})
    assert (lab.spent, lab.asked, search.stopped_by) == (8, {}, None)
    assert search.best.version == "v0"


async def test_the_finals_take_back_an_incumbent_that_was_only_lucky(race: Run) -> None:
    def agent(prompt: str, task: str) -> float:
        split, number = task.split()
        if "lucky" not in prompt:
            return 0.5
        return 1.0 if split == "train" or int(number) in lucky else 0.0

    edits = {"r01/0/edit": "Do {task}, lucky."}
    lucky = set(range(30))
    _, lab = await race(agent, edits, rollouts=80, proposals=1, finals_share=0.5)
    lucky = set(lab.tried["val/v1"][:12])
    search, lab = await race(agent, edits, rollouts=100, proposals=1, finals_share=0.4)
    assert lab.decided("accept") == [("accept", "v1", 12)]
    final = next(each for each in lab.decisions if each["kind"] == "final")
    assert (final["version"], final["tasks"], search.best.version) == ("v0", 30, "v0")
    assert search.summary()["baseline_score"] == search.summary()["best_score"] == 0.5


async def test_what_is_held_back_for_the_finals_is_not_spent_on_the_search(race: Run) -> None:
    _, lab = await race(lambda prompt, task: 0.5, better_each_time(), rollouts=200, finals_share=0.3)
    assert lab.spent <= 140


async def test_while_stuck_more_edits_are_tried(race: Run) -> None:
    _, lab = await race(lambda prompt, task: 0.5, better_each_time(), rollouts=400)
    gates = Counter(each["step"].split("/")[0] for each in lab.decisions if each["kind"] == "gate")
    assert [gates[f"r{number:02}"] for number in range(1, 9)] == [2, 2, 2, 4, 4, 4, 6, 6]
    assert [each["width"] for each in lab.decisions if each["kind"] == "widen"][:2] == [4, 6]


@pytest.mark.parametrize("rollouts", range(38, 160, 7))
@pytest.mark.parametrize("calls", [2, 5, 13, None])
async def test_a_budget_is_never_exceeded(race: Run, rollouts: int, calls: int | None) -> None:
    search, lab = await race(improving, better_each_time(), rollouts=rollouts, optimizer_calls=calls)
    assert lab.spent <= rollouts
    assert calls is None or len(lab.asked) <= calls
    assert search.stopped_by in (
        f"the search's budget of {rollouts} rollouts",
        f"the budget of {calls} optimizer calls",
    )
    assert search.summary()["rollouts"] == lab.spent


@pytest.mark.parametrize("limit", range(1, 120, 9))
async def test_once_a_limit_is_reached_nothing_is_begun_and_the_best_so_far_is_the_result(
    race: Run, limit: int
) -> None:
    search, lab = await race(improving, better_each_time(), rollouts=300, soft_limit=limit)
    assert search.stopped_by == "the budget of money"
    assert search.best is not None
    assert lab.spent - limit < 18, "more than a block was in flight"
    assert search.summary()["rollouts"] == lab.spent
    assert search.summary()["optimizer_calls"] == len(lab.asked)


async def test_a_template_that_is_not_well_formed_is_refused_before_anything_is_spent(race: Run) -> None:
    with pytest.raises(PromptTemplateError):
        await race(improving, {}, initial={"prompt": PromptTemplate(template="Do {task")})


async def test_without_a_budget_a_run_is_four_passes_over_all_tasks(race: Run) -> None:
    search, lab = await race(improving, better_each_time())
    assert search.stopped_by == "the default of 152 rollouts"
    assert lab.spent <= 152


@pytest.mark.parametrize(("rollouts", "calls"), [(37, None), (None, 1), (0, 0)])
async def test_a_budget_that_pays_for_nothing_is_refused_with_the_cheapest_run(
    race: Run, rollouts: int | None, calls: int | None
) -> None:
    with pytest.raises(AlgorithmError, match=r"cheapest possible run, of 38 rollouts and 2 calls"):
        await race(improving, {}, rollouts=rollouts, optimizer_calls=calls)


async def test_the_cheapest_run_can_improve_a_prompt(race: Run) -> None:
    search, _ = await race(improving, better_each_time(), rollouts=38, optimizer_calls=2)
    assert search.best.version == "v1"


@pytest.mark.parametrize("seed", range(12))
async def test_a_run_does_not_depend_on_what_ends_first(race: Run, seed: int) -> None:
    expected, lab = await race(noisy, better_each_time(), rollouts=300)
    search, shuffled = await race(noisy, better_each_time(), rollouts=300, delays=Random(seed))
    assert search.summary() == expected.summary()
    assert shuffled.decisions == lab.decisions
    assert shuffled.asked == lab.asked


@pytest.mark.parametrize("rollouts", range(60, 200, 9))
async def test_a_larger_budget_goes_the_same_way_to_where_the_smaller_one_ended(race: Run, rollouts: int) -> None:
    smaller, small = await race(noisy, better_each_time(), rollouts=rollouts)
    larger, large = await race(noisy, better_each_time(), rollouts=300, planned=rollouts)
    texts = {each["version"]: each["template"] for each in larger.summary()["candidates"]}
    for each in smaller.summary()["candidates"]:
        assert texts[each["version"]] == each["template"]
    assert {step: large.asked[step] for step in small.asked} == small.asked


async def test_models_that_do_not_answer_five_times_in_a_row_stop_the_run(race: Run) -> None:
    def silent(step: str, message: str) -> str | ModelError:
        return ModelError("the key is not valid")

    with pytest.raises(ModelError, match=r"5 times in a row.*the key is not valid.*resume"):
        await race(lambda prompt, task: 0.5, silent)


async def test_a_model_that_fails_now_and_then_costs_an_edit_each_time(race: Run) -> None:
    calls = count()
    answers = better_each_time()

    def flaky(step: str, message: str) -> str | ModelError:
        return ModelError("busy") if next(calls) % 3 == 0 else answers(step, message)

    search, _ = await race(improving, flaky, rollouts=200)
    assert search.best.version != "v0"
    assert "busy" in {each["dropped"] for each in search.summary()["candidates"]}


async def test_the_summary_tells_what_happened_to_every_edit(race: Run) -> None:
    agent = rewards({"better": 1.0}, lambda task: 1.0)
    search, _ = await race(agent, {"r01/0/edit": "Do {task} better.", "r01/1/edit": "Do it."}, rollouts=60)
    summary = search.summary()
    seed, better, dropped = summary["candidates"][:3]
    assert (seed["version"], seed["parent"], better["parent"], better["step"]) == ("v0", None, "v0", "r01/0")
    assert (better["template"], better["critique"]) == ("Do {task} better.", "Do better.")
    assert dropped["edit_faults"] == ["the placeholder 'task' is lost", "the template says the same as v0"]
    assert dropped["dropped"] == "the edit was rejected: the template says the same as v0"
    assert (summary["best_version"], summary["best_score"], summary["baseline_score"]) == ("v1", 1.0, 0.5)
    assert [point["version"] for point in summary["curve"]] == ["v0", "v1", "v1"]
    assert sum(task["before"] == 0.5 and task["after"] == 1.0 for task in summary["tasks"]) >= 12


VAL = [f"val {number}" for number in range(30)]


def better_each_time() -> Callable[[str, str], str]:
    """Edits that are all different."""
    return lambda step, message: "Do better." if step.endswith("critique") else f"Do {{task}} as {step}."


def improving(prompt: str, task: str) -> float:
    """An edit is the better the later it was made."""
    made = re.search(r"r(\d+)/(\d)", prompt)
    return min(0.2 * int(made[1]) + 0.05 * int(made[2]), 0.9) if made else 0.0


def noisy(prompt: str, task: str) -> float:
    """Some edits are a little better than others, on some tasks."""
    good = Random(prompt).random()
    return float(Random(f"{prompt} {task}").random() < 0.3 + 0.5 * good)
