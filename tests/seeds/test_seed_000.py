"""Seed 000, Train the First Agent: the room selector, and its training by APO."""

from typing import Any

import agentlightning as agl
import pytest
from agentlightning.testing import ChatReply, ChatRequest

TOOL = """[{"type": "function", "function": {"name": "get_rooms_and_availability", "parameters": {
    "type": "object", "properties": {"date": {"type": "string"}}}}}]"""


def answer(request: ChatRequest) -> ChatReply:
    """An agent that looks before it chooses, and chooses well once it is told how; a critic and an editor."""
    text = str(request.messages[-1]["content"])
    if "<critique>" in text:
        return ChatReply("Take the smallest room for {attendees}.")
    if "<rollout " in text:
        return ChatReply("- It does not say which room to take.")
    if request.tools:
        return ChatReply(tool_calls=[("get_rooms_and_availability", {"date": "2025-10-15", "time": "10:00"})])
    return ChatReply("A103" if "smallest" in str(request.messages[0]["content"]) else "B1")


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(("prompt", "reward"), [("The smallest room.", 1.0), ("A room.", 0.0)])
async def test_the_agent_calls_its_tool_and_chooses(block, run, store, prompt: str, reward: float) -> None:
    looked_up: list[Any] = []
    names = {
        "get_rooms_and_availability": lambda **query: looked_up.append(query),
        "grade_the_choice": lambda choice, expected: float(choice == expected),
    }
    await run(block("The agent's logic", {"[ ... ]": TOOL}), names)
    runner = agl.LitAgentRunner[Any]()
    with runner.run_context(agent=lambda task: names["room_selector_agent"](task, prompt), store=store):
        rollout = await runner.step({"expected_choice": "A103"})
    assert isinstance(rollout, agl.AttemptedRollout)
    assert rollout.attempt.final_reward == reward
    assert looked_up == [{"date": "2025-10-15", "time_str": "10:00", "duration_min": None}]
    spans = await store.query_spans(rollout.rollout_id)
    roles = [message["role"] for message in agl.TraceToMessages().adapt(list(spans))[-1]["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant"]


ROOM_SELECTOR = """
import openai

client = openai.OpenAI()
RoomSelectionTask = dict

def prompt_template_baseline():
    return agl.PromptTemplate(template="A room for {attendees}.", engine="f-string")

def room_selection_grader(client, final_message, expected_choice):
    return float(final_message == expected_choice)
"""
AGENT_LOGIC = """
    messages = [{"role": "user", "content": prompt_template.format(**task)}]
    response = client.chat.completions.create(model="gpt-5-mini", messages=messages)
    final_message = response.choices[0].message.content
"""
RUN_APO = """
import agentlightning as agl
from room_selector import prompt_template_baseline, room_selector

TASKS = [{"attendees": number, "expected_choice": "A103"} for number in (2, 4)]
"""


@pytest.mark.usefixtures("model")
def test_apo_tunes_its_prompt(block, run_script, tmp_path) -> None:
    agent = block("The agent", {"# ... agent logic using the prompt_template ...": AGENT_LOGIC})
    (tmp_path / "room_selector.py").write_text(ROOM_SELECTOR + agent)
    trainer = block("The trainer", {"dataset_val = ...": "dataset_val = TASKS[:1], TASKS[1:]"})
    script = run_script("\n".join([RUN_APO, block("The algorithm"), trainer]))
    assert script.returncode == 0, script.stdout + script.stderr
    assert "validation: 0.00 with the first prompt, 1.00 with the best" in script.stdout
    assert "+Take the smallest room for {attendees}." in script.stdout
