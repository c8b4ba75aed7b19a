"""An agent that calls its model through LiteLLM, and whose prompt is trained."""

import itertools
import json
import os
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else importing it fetches a list of prices

import agentlightning as agl
import litellm
from agentlightning.testing import ChatReply, ChatRequest, OpenAIServer
from openai import AsyncOpenAI

MODEL = os.environ.get("LITELLM_MODEL", "openai/gpt-4.1-nano")
PLACES = {"Oslo": -4, "Rome": 14, "Quito": 16, "Delhi": 21, "Perth": 28, "Cairo": 19}
TASKS = [{"one": one, "other": other} for one, other in itertools.combinations(PLACES, 2)]
TEMPERATURE = {
    "type": "function",
    "function": {
        "name": "temperature",
        "description": "The temperature of a place now, in degrees Celsius.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}


@agl.rollout
def warmer(task: dict[str, str], prompt_template: agl.PromptTemplate) -> float:
    """Asks the model which place is warmer, looks up what it wants to know, and says how good its answer is."""
    messages: list[Any] = [{"role": "user", "content": prompt_template.format(**task)}]
    while True:
        answer = litellm.completion(MODEL, messages, tools=[TEMPERATURE], temperature=0).choices[0].message
        if not answer.tool_calls:
            return score(answer.content or "", task)
        messages.append(answer.model_dump(exclude_none=True))
        for call in answer.tool_calls:
            place = json.loads(call.function.arguments)["place"]
            content = str(PLACES.get(place, "unknown"))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": content})


def score(answer: str, task: dict[str, str]) -> float:
    """1 for the warmer place alone, 0.5 if it is among other words, else 0."""
    expected = max(task.values(), key=PLACES.__getitem__)
    return 1.0 if answer.strip() == expected else 0.5 if expected in answer else 0.0


def offline_model(request: ChatRequest) -> ChatReply:
    """Plays the agent's model, and APO's: it talks at length unless it is told not to, and finds that out."""
    text, said = str(request.messages[-1]["content"]), str(request.messages)
    places = sorted((place for place in PLACES if place in said), key=PLACES.__getitem__)
    if "<critique>" in text:
        return ChatReply("Which is warmer now, {one} or {other}? Answer with one word.")
    if "<rollout " in text:
        return ChatReply("- The answers are too long.")
    if request.messages[-1]["role"] != "tool":
        return ChatReply(tool_calls=[("temperature", {"place": place}) for place in places])
    return ChatReply(places[-1] if "one word" in said else f"It is warmer in {places[-1]}.")


def train() -> None:
    """Tunes the question on five tasks, chooses on five others, and reports on five that were never looked at."""
    agl.Trainer(
        algorithm=agl.APO(AsyncOpenAI(), beam_width=1, branch_factor=1, beam_rounds=1, gradient_batch_size=2),
        n_runners=2,
        initial_resources={"prompt_template": "Is it warmer in {one} or in {other}?"},
    ).fit(warmer, TASKS[0::3], val_dataset=TASKS[1::3], test_dataset=TASKS[2::3])


if __name__ == "__main__":
    if os.environ.get("OPENAI_API_KEY"):
        train()
    else:
        print("No OPENAI_API_KEY: the models are a SIMULATION; its scores say nothing about real ones.")
        with OpenAIServer(offline_model) as server:
            os.environ |= {"OPENAI_API_KEY": "offline", "OPENAI_BASE_URL": server.base_url}
            train()
