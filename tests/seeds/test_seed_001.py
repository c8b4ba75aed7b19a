"""Seed 001, Writing Agents: every way to write an agent, run by the runner."""

import asyncio
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.testing import ChatReply, ChatRequest, OpenAIServer

PROMPT = {"prompt_template": "A room at {time}, please."}
TASK = {"time": "10:00", "expected_choice": "A103"}


def answer(request: ChatRequest) -> ChatReply:
    return ChatReply(f"{request.model} booked BA117.")


def left_to_the_reader(**names: Any) -> dict[str, Any]:
    return {"__name__": "seed_001", "Any": Any, **names}


def room_selection_grader(final_message: str, expected_choice: str) -> float:
    return 1.0 if final_message == expected_choice else 0.0


async def done(store: agl.LightningStore, agent: Any, task: Any, resources: dict[str, Any]) -> agl.AttemptedRollout:
    runner = agl.LitAgentRunner[Any]()
    with runner.run_context(agent=agent, store=store):
        rollout = await runner.step(task, resources=resources)
    assert isinstance(rollout, agl.AttemptedRollout)
    assert rollout.status == "succeeded"
    return rollout


async def test_the_room_selector_is_a_function(store, block, run) -> None:
    names = left_to_the_reader(room_selection_grader=room_selection_grader, final_message="A103")
    await run(block("The room selector as a function"), names)
    rollout = await done(store, names["room_selector"], TASK, PROMPT)
    assert rollout.attempt.final_reward == 1.0


async def test_the_room_selector_is_a_class(store, block, run) -> None:
    names = left_to_the_reader(
        room_selection_grader=room_selection_grader, final_message="B1", RoomSelectionTask=dict[str, Any]
    )
    await run(block("The room selector as a class"), names)
    rollout = await done(store, names["RoomSelectorAgent"](), TASK, PROMPT)
    assert rollout.attempt.final_reward == 0.0


AGENT = """
from typing import TypedDict
from agentlightning import PromptTemplate, rollout

class RoomSelectionTask(TypedDict):
    date: str
    time: str
    duration_min: int
    attendees: int

@rollout
def room_selector(task: RoomSelectionTask{parameters}) -> float:
    return float(task["attendees"])
"""


def test_the_trainer_runs_the_dataset_when_there_is_nothing_to_tune(block, run_script) -> None:
    script = run_script(AGENT.format(parameters="") + block("The dataset and the trainer"))
    assert script.returncode == 0, script.stdout + script.stderr
    assert "train: mean reward 10.00 (2 succeeded)" in script.stdout
    assert "val:" not in script.stdout


def test_the_trainer_names_the_resource_that_it_was_not_given(block, run_script) -> None:
    script = run_script(
        AGENT.format(parameters=", prompt_template: PromptTemplate") + block("The dataset and the trainer")
    )
    assert script.returncode == 1
    assert "the agent asks for the resource 'prompt_template'; the rollout has none" in script.stderr


async def test_the_flight_assistant_calls_the_model_it_is_given(
    store, block, run, model: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    names = left_to_the_reader(
        rollout=agl.rollout,
        TypedDict=dict,
        grade_flight_booking=lambda message, expected: float(expected["flight"] in message),
    )
    await run(block("The flight assistant"), names)
    llm = agl.LLM(endpoint=model.base_url, model="small")
    task = {"request": "To Rome, please.", "expected_booking": {"flight": "BA117"}}
    rollout = await done(store, names["flight_assistant"], task, {"main_llm": llm})
    assert rollout.attempt.final_reward == 1.0
    assert f"Rollout ID: {rollout.rollout_id}\nRollout Mode: None" in capsys.readouterr().out
    [call] = [span for span in await store.query_spans(rollout.rollout_id) if span.name == "openai.chat.completion"]
    assert call.attributes["gen_ai.completion.0.content"] == "small booked BA117."


async def test_a_sync_agent_runs_its_async_calls_in_a_thread(store, block, run) -> None:
    names = left_to_the_reader()
    await run(block("Async calls in a sync agent"), names)
    rollout = await done(store, lambda task: names["run_sync_ephemeral"](asyncio.sleep(0, 0.5)), "any", {})
    assert rollout.attempt.final_reward == 0.5
    assert names["run_sync_ephemeral"](asyncio.sleep(0, "in a running loop")) == "in a running loop"


def several_steps(plan: list[str]) -> dict[str, Any]:
    def execute_plan(plan: list[str]) -> str:
        if "fail" in plan:
            raise ValueError("the plan failed")
        return "booked"

    return left_to_the_reader(
        PromptTemplate=agl.PromptTemplate,
        generate_plan=lambda task, prompt_template: plan,
        grade_plan=lambda plan: 0.25,
        execute_plan=execute_plan,
        custom_grade_final_result=lambda result, expected: float(result == expected),
    )


@pytest.mark.parametrize(
    ("plan", "reward", "last"), [(["book"], 1.0, "execution"), (["book", "fail"], 0.0, "exception")]
)
async def test_an_agent_of_several_steps_leaves_them_in_its_trace(store, block, run, plan, reward, last) -> None:
    names = several_steps(plan)
    await run(block("The agent of several steps"), names)
    task = {"expected_output": "booked"}
    rollout = await done(store, names["multi_step_agent"], task, {"prompt_template": "any"})
    spans = await store.query_spans(rollout.rollout_id)
    message = "agentlightning.message"
    middle = [message] if last == "execution" else [message, "agentlightning.exception"]
    annotation = "agentlightning.annotation"
    assert [span.name for span in spans][1:] == [message, "agentlightning.object", annotation, *middle, annotation]
    assert [agl.get_reward_value(span) for span in agl.find_reward_spans(spans)] == [0.25, reward]
