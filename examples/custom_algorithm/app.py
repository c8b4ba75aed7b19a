"""The first algorithm of one's own: tries a list of prompts, keeps the best. Runner and algorithm: a process each."""

import asyncio
import contextlib
import logging
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import agentlightning as agl
from agentlightning import PromptTemplate, find_final_reward
from agentlightning.runner import LitAgentRunner
from agentlightning.tracer import AgentOpsTracer
from openai import OpenAI

PROMPTS_TO_TEST = [
    "You are a helpful assistant. {any_question}",
    "You are a knowledgeable AI. {any_question}",
    "You are a friendly chatbot. {any_question}",
]
TASK_INPUT = "Why is the sky blue?"

store = agl.LightningStoreClient(os.environ.get("AGL_STORE", "http://localhost:4747"))


def simple_agent(task: str, prompt_template: PromptTemplate) -> float:
    """An agent that answers a question and gets a score."""
    client = OpenAI()
    prompt = prompt_template.format(any_question=task)
    response = client.chat.completions.create(model="gpt-4.1-nano", messages=[{"role": "user", "content": prompt}])
    llm_output = response.choices[0].message.content
    print(f"[Rollout] LLM returned: {llm_output}")
    return random.uniform(0, 1)  # Replace with actual scoring logic


async def find_best_prompt(store: agl.LightningStore, prompts_to_test: list[str], task_input: Any) -> None:
    """A simple algorithm to find the best prompt from a list."""
    results: list[tuple[str, float]] = []
    for prompt in prompts_to_test:
        print(f"[Algo] Updating prompt template to: '{prompt}'")
        resources_update = await store.add_resources(resources={"prompt_template": prompt})

        print("[Algo] Queuing task for clients...")
        rollout = await store.enqueue_rollout(input=task_input, resources_id=resources_update.resources_id)
        print(f"[Algo] Task '{rollout.rollout_id}' is now available for clients.")

        await store.wait_for_rollouts([rollout.rollout_id])
        completed_rollout = (await store.query_rollouts([rollout.rollout_id]))[0]
        print(f"[Algo] Received Result: {completed_rollout.model_dump_json(indent=None)}")

        spans = await store.query_spans(rollout.rollout_id)
        print("[Algo] Queried Spans:\n  - " + "\n  - ".join(str(span) for span in spans))
        final_reward = find_final_reward(spans)
        print(f"[Algo] Final reward: {final_reward}\n")
        results.append((prompt, final_reward if final_reward is not None else 0.0))

    print(f"[Algo] All prompts and their rewards: {results}")
    best_prompt, best_reward = max(results, key=lambda item: item[1])
    print(f"[Algo] Best prompt found: '{best_prompt}' with reward {best_reward}")


async def run_tasks_as_they_come() -> None:
    """A runner: takes tasks from the store until it is interrupted."""
    runner = LitAgentRunner[str](tracer=AgentOpsTracer())
    with runner.run_context(agent=simple_agent, store=store):
        await runner.iter()


@contextlib.contextmanager
def language_model() -> Iterator[None]:
    """The real API with OPENAI_API_KEY, else the room selector's simulation, which knows nothing of the sky."""
    if os.environ.get("OPENAI_API_KEY"):
        yield
        return
    sys.path.append(str(Path(__file__).parents[1] / "room_selector"))
    from offline_model import offline_model

    with offline_model() as base_url:
        print("No OPENAI_API_KEY: the model is a SIMULATION.")
        os.environ |= {"OPENAI_API_KEY": "offline", "OPENAI_BASE_URL": base_url}
        yield


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s [%(levelname)s] %(name)s %(message)s")
    match sys.argv[1:]:
        case ["runner"]:
            with language_model(), contextlib.suppress(KeyboardInterrupt):
                asyncio.run(run_tasks_as_they_come())
        case ["algo"]:
            asyncio.run(find_best_prompt(store, PROMPTS_TO_TEST, TASK_INPUT))
        case _:
            sys.exit("usage: python app.py runner | algo   (with `agl store` in another terminal)")
