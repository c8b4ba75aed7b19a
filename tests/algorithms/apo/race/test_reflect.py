from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from agentlightning import LLM, AlgorithmError, PromptTemplate

Run = Callable[..., Awaitable[tuple[Any, Any]]]

SMALL = {"rollouts": 46, "proposals": 1}
TWO = {"first": PromptTemplate(template="Do {task}."), "second": PromptTemplate(template="Say it.")}


def equal(prompt: str, task: str) -> float:
    return 0.5


def better(prompt: str, task: str) -> float:
    return 1.0 if "better" in prompt else 0.5


@pytest.mark.parametrize(
    ("edit", "reward", "passes"),
    [
        ("Do {task}, at length.", 0.75, True),
        ("Do {task}, at length.", 0.5, False),
        ("Do {task}", 0.5, True),
        ("Do {task}", 0.25, False),
    ],
)
async def test_the_gate_lets_pass_what_does_better_on_the_minibatch_or_as_well_in_fewer_words(
    race: Run, edit: str, reward: float, passes: bool
) -> None:
    def agent(prompt: str, task: str) -> float:
        return reward if prompt == edit else 0.5

    _, lab = await race(agent, {"r01/0/edit": edit}, **SMALL)
    assert lab.tried["gate/v1"] == lab.tried["train/v0/0"]
    assert lab.decisions[0]["passed"] is passes
    assert ("val/v1" in lab.tried) is passes


async def test_a_prompt_meets_every_train_task_once_before_it_meets_one_again(race: Run) -> None:
    _, lab = await race(equal, {}, rollouts=100)
    batches = [lab.tried[f"train/v0/{number}"] for number in range(4)]
    assert sorted(batches[0] + batches[1]) == sorted(batches[2] + batches[3]) == list(range(8))
    assert batches[:2] != batches[2:]


async def test_a_minibatch_without_a_fault_is_not_criticised(race: Run) -> None:
    def agent(prompt: str, task: str) -> float:
        return 0.5 if task == "train 7" else 1.0

    _, lab = await race(agent, {}, rollouts=46, finals_share=0.0)
    faulty = {step for step, tasks in lab.tried.items() if 7 in tasks}
    assert "train/v0/0" in lab.tried and "train/v0/1" in lab.tried
    assert len(faulty) == len([step for step in lab.asked if step.endswith("0/critique")])


async def test_rewards_that_go_beyond_1_are_not_taken_for_perfect(race: Run) -> None:
    def agent(prompt: str, task: str) -> float:
        return float(len(task)) + 5.0 * ("better" in prompt)

    tasks = ["a", "bb", "ccc", "dddd"]
    search, _ = await race(agent, {"r01/0/edit": "Do {task} better."}, train=tasks, val=tasks * 3, **SMALL)
    assert search.best.version == "v1"


async def test_the_critic_sees_the_template_and_what_went_wrong(race: Run) -> None:
    def agent(prompt: str, task: str) -> float:
        return 1.0 if task == "train 0" else 0.0

    _, lab = await race(agent, {}, train=["train 0", "train 1"], **SMALL)
    message = lab.asked["r01/0/critique"]
    assert "<prompt_template>\nDo {task}.\n</prompt_template>" in message
    assert message.index("did train 1") < message.index("did train 0")


async def test_an_edit_with_a_fault_is_sent_back_once_with_the_reason(race: Run) -> None:
    edits = {"r01/0/edit": "Do it better.", "r01/0/repair": "Do {task} better."}
    search, lab = await race(better, edits, **SMALL)
    assert "reason=\"the placeholder 'task' is lost\"" in lab.asked["r01/0/repair"]
    assert search.best.bundle["prompt"].template == "Do {task} better."
    assert search.best.edit_faults == ["the placeholder 'task' is lost"]


async def test_an_edit_with_a_fault_costs_no_rollout(race: Run) -> None:
    search, lab = await race(better, {"r01/0/edit": "Do it.", "r01/0/repair": "Do it again."}, **SMALL)
    assert not [step for step in lab.tried if not step.startswith("train/v0/")]
    assert ("drop", "v1", None) in lab.decided("drop")
    assert search.summary()["failures"]["invalid"] >= 2


async def test_without_a_call_left_an_edit_is_not_repaired(race: Run) -> None:
    search, lab = await race(better, {"r01/0/edit": "Do it."}, **SMALL, optimizer_calls=2)
    assert list(lab.asked) == ["r01/0/critique", "r01/0/edit"]
    assert search.stopped_by == "the budget of 2 optimizer calls"


async def test_an_edit_that_is_cut_off_is_not_tried(race: Run) -> None:
    search, _ = await race(better, {"r01/0/edit": "<prompt_template>\nDo {task} bet"}, **SMALL)
    assert search.summary()["candidates"][1]["edit_faults"][0].startswith("the answer is cut off")


async def test_of_two_edits_that_say_the_same_one_is_tried(race: Run) -> None:
    edits = {"r01/0/edit": "Do {task} better.", "r01/1/edit": "Do {task}   better."}
    search, _ = await race(better, edits, rollouts=80)
    assert search.summary()["candidates"][2]["dropped"] == "the edit says the same as v1"


async def test_rollouts_without_traces_end_the_run_with_the_reason(race: Run) -> None:
    with pytest.raises(AlgorithmError, match="nothing to criticise"):
        await race(equal, {}, traced=False)


async def test_rollouts_without_rewards_end_the_run_with_the_reason(race: Run) -> None:
    with pytest.raises(AlgorithmError, match="return a number from the agent"):
        await race(lambda prompt, task: None, {})


async def test_several_templates_are_edited_in_turn(race: Run) -> None:
    edits = {"r01/0/edit": "Do {task} well.", "r02/0/edit": "Say it well."}
    _, lab = await race(equal, edits, initial=TWO, rollouts=100, proposals=1)
    first, second = lab.asked["r01/0/edit"], lab.asked["r02/0/edit"]
    assert '<prompt_template name="first">\nDo {task}.\n' in first
    assert '<other_template name="second">\nSay it.\n' in first
    assert '<prompt_template name="second">\nSay it.\n' in second


async def test_all_templates_can_be_edited_at_once(race: Run) -> None:
    answer = (
        '<prompt_template name="first">\nDo {task} better.\n</prompt_template>\n'
        '<prompt_template name="second">\nSay it better.\n</prompt_template>'
    )
    search, _ = await race(better, {"r01/0/edit": answer}, initial=TWO, components="all", **SMALL)
    assert {name: each.template for name, each in search.best.bundle.items()} == {
        "first": "Do {task} better.",
        "second": "Say it better.",
    }
    assert search.best.resources.resources["second"].template == "Say it better."


async def test_an_answer_that_lacks_a_template_is_sent_back(race: Run) -> None:
    answer = '<prompt_template name="first">\nDo {task} better.\n</prompt_template>'
    _, lab = await race(better, {"r01/0/edit": answer}, initial=TWO, components="all", **SMALL)
    assert "the answer has no <prompt_template name='second'>" in lab.asked["r01/0/repair"]


async def test_templates_that_are_not_named_stay_as_they_are(race: Run) -> None:
    edits = {"r01/0/edit": "Say it better."}
    search, lab = await race(better, edits, initial=TWO, components=["second"], **SMALL)
    assert search.best.resources.resources["first"] == TWO["first"]
    assert "other_template" not in lab.asked["r01/0/critique"]


async def test_a_component_that_is_no_prompt_template_is_refused(race: Run) -> None:
    initial = {**TWO, "model": LLM(endpoint="http://localhost", model="any")}
    with pytest.raises(AlgorithmError, match=r"\['model'\] is none of those among .*\['first', 'second'\]"):
        await race(better, {}, initial=initial, components=["model"])
