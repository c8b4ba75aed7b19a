"""The agent: books a meeting room with one tool and two calls of a language model.

Knows nothing of how it is trained; which model it talks to is decided by OPENAI_API_KEY and OPENAI_BASE_URL.
"""

import json
import os
from typing import Any

import agentlightning as agl
import openai
from pydantic import BaseModel, Field
from rooms import TOOLS, RoomSelectionTask, get_rooms_and_availability, grade

TASK_MODEL = "gpt-4.1-nano"
JUDGE_MODEL = "gpt-4.1-mini"


def prompt_template_baseline() -> agl.PromptTemplate:
    """The prompt to start from: it says what is asked for and not how to choose."""
    return agl.PromptTemplate(
        template=(
            "Find a meeting room on {date} at {time} for {duration_min} minutes and {attendees} attendees, "
            "with needs {needs} and accessible required: {accessible_required}."
        ),
        engine="f-string",
    )


@agl.rollout
def room_selector(task: RoomSelectionTask, prompt_template: agl.PromptTemplate) -> float:
    """Books a room for the task and returns how good the choice is, from 0 to 1."""
    with openai.OpenAI() as client:
        final_message = choose_room(client, prompt_template.format(**task["task_input"]))
        if os.environ.get("ROOM_SELECTOR_JUDGE") == "llm":
            return judge(client, final_message, task["expected_choice"])
    return grade(final_message, task["expected_choice"])


def choose_room(client: openai.OpenAI, prompt: str) -> str | None:
    """Asks the model, looks up the rooms if it wants to see them, and returns its last message."""
    messages: list[Any] = [{"role": "user", "content": prompt}]
    response = client.chat.completions.create(
        model=TASK_MODEL, temperature=0, messages=messages, tools=TOOLS, tool_choice="auto"
    )
    response_message = response.choices[0].message
    if not response_message.tool_calls:
        return response_message.content

    messages.append(response_message)
    for tool_call in response_message.tool_calls:
        messages.append({"role": "tool", "tool_call_id": tool_call.id, "content": json.dumps(_call_tool(tool_call))})
    second_response = client.chat.completions.create(model=TASK_MODEL, temperature=0, messages=messages)
    return second_response.choices[0].message.content


def _call_tool(tool_call: Any) -> Any:
    """The tool's result, or the error for the model to read."""
    if tool_call.type != "function" or tool_call.function.name != "get_rooms_and_availability":
        return {"error": "there is no such tool"}
    try:
        arguments = json.loads(tool_call.function.arguments)
        return get_rooms_and_availability(arguments["date"], arguments["time"], arguments["duration_min"])
    except (KeyError, TypeError, ValueError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


class Verdict(BaseModel):
    """What the LLM judge says."""

    reason: str = Field(description="At most one sentence")
    score: float = Field(description="From 0, another choice, to 1, the expected choice")


def judge(client: openai.OpenAI, final_message: str | None, expected_choice: str) -> float:
    """Has a language model score the answer, which forgives wording as `grade` does not."""
    prompt = (
        "Does the answer choose what was expected? Score 1 if it does and says little else, 0 if it chooses another "
        f"or nothing, and between for a choice that is unclear.\n<expected>{expected_choice}</expected>\n"
        f"<answer>{final_message or ''}</answer>"
    )
    completion = client.chat.completions.parse(
        model=JUDGE_MODEL, temperature=0, messages=[{"role": "user", "content": prompt}], response_format=Verdict
    )
    verdict = completion.choices[0].message.parsed
    if verdict is None:
        raise ValueError(f"the judge refused: {completion.choices[0].message.refusal}")
    return verdict.score
