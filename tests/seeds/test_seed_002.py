"""Seed 002, Write the First Algorithm: its parts as they stand, joined by a store, and under the Trainer."""

import asyncio
import contextlib
import random
import re
from typing import Any

import agentlightning as agl
import openai
import pytest
from agentlightning.testing import ChatReply, ChatRequest


def answer(request: ChatRequest) -> ChatReply:
    return ChatReply("Rayleigh scattering.")


def imports() -> dict[str, Any]:
    return {
        "__name__": "seed_002",
        "agl": agl,
        "random": random,
        "LitAgentRunner": agl.LitAgentRunner,
        "AgentOpsTracer": agl.AgentOpsTracer,
        "PromptTemplate": agl.PromptTemplate,
        "OpenAI": openai.OpenAI,
        "find_final_reward": agl.find_final_reward,
    }


@pytest.mark.usefixtures("model")
async def test_algorithm_and_runner_meet_in_the_store(
    store_address, block, run, capsys: pytest.CaptureFixture[str]
) -> None:
    at_the_store = {"http://localhost:4747": f"http://{store_address}"}
    runners, algorithms = imports(), imports()
    await run(block("The agent"), runners)
    await run(block("The algorithm"), algorithms)
    running = asyncio.create_task(run(block("The runner", at_the_store), runners))
    awaited = {"find_best_prompt(": "await find_best_prompt("}
    await run(block("The start", at_the_store | awaited), algorithms)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    for names in (runners, algorithms):
        await names["store"].close()
    output = capsys.readouterr().out
    assert output.count("[Rollout] LLM returned: Rayleigh scattering.") == 3
    assert len(re.findall(r"\[Algo\] Received Result: .*\"status\":\"succeeded\"", output)) == 3
    assert "Span(name='openai.chat.completion', attributes={" in output
    assert len(re.findall(r"\[Algo\] Final reward: 0\.\d+", output)) == 3
    assert re.search(r"\[Algo\] Best prompt found: 'You are a .*\{any_question\}' with reward 0\.\d+", output)


IMPORTS = """
import functools
import random
import agentlightning as agl
from agentlightning import PromptTemplate, find_final_reward
from openai import OpenAI
"""
FIT = """
algorithm = functools.partial(find_best_prompt, prompts_to_test=["Be brief: {any_question}"], task_input="Why?")
agl.Trainer(algorithm=algorithm).fit(simple_agent)
"""


@pytest.mark.usefixtures("model")
def test_the_algorithm_runs_under_the_trainer(block, run_script) -> None:
    script = run_script("\n".join([IMPORTS, block("The agent"), block("The algorithm"), FIT]))
    assert script.returncode == 0, script.stdout + script.stderr
    assert "[Algo] Best prompt found: 'Be brief: {any_question}' with reward 0." in script.stdout
    assert re.search(r"^1 rollouts, \d+ s$", script.stdout, re.MULTILINE)
    assert re.search(r"run run-[0-9a-f]{12}: find_best_prompt, succeeded", script.stdout)
