"""An agent of the OpenAI Agents SDK whose prompt is trained. It is as it would be without training."""

import itertools
import os

import agentlightning as agl
from agentlightning.testing import ChatReply, ChatRequest, OpenAIServer
from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI

set_tracing_disabled(True)  # else the SDK sends traces of its own to OpenAI

PLACES = {"Oslo": -4, "Rome": 14, "Quito": 16, "Delhi": 21, "Perth": 28, "Cairo": 19}
TASKS = [{"one": one, "other": other} for one, other in itertools.combinations(PLACES, 2)]


@function_tool
def temperature(place: str) -> str:
    """The temperature of a place now, in degrees Celsius."""
    return str(PLACES.get(place, "unknown"))


@agl.rollout
async def warmer(task: dict[str, str], prompt_template: agl.PromptTemplate) -> float:
    """Asks the agent which place is warmer, and says how good its answer is."""
    async with AsyncOpenAI() as client:
        agent = Agent(
            name="weather",
            model=OpenAIChatCompletionsModel("gpt-4.1-nano", openai_client=client),
            model_settings=ModelSettings(temperature=0),
            tools=[temperature],
        )
        result = await Runner.run(agent, prompt_template.format(**task))
    return score(result.final_output, task)


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
