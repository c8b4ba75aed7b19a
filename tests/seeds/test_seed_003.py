"""Seed 003, Core Concepts: its scripts as they stand, and its exercises solved.

What the seed says that its scripts print is not what they print: its agent takes "15)" for the expected answer, which
is no number, so that every reward is 0.0.
"""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

RunScript = Callable[[str], "subprocess.CompletedProcess[str]"]
REFUSED = "Could not parse expected answer from task context or LLM result."


@pytest.fixture
def agent(block: Callable[[str], str], tmp_path: Path) -> str:
    """The agent, saved under the name that the seed gives it."""
    text = block("The agent")
    (tmp_path / "simple_agent.py").write_text(text)
    return text


def printed(script: "subprocess.CompletedProcess[str]") -> str:
    assert script.returncode == 0, script.stdout + script.stderr
    assert "Traceback" not in script.stderr
    return script.stdout


def test_the_agent_is_tried_without_a_server(agent: str, run_script: RunScript) -> None:
    output = printed(run_script(agent))
    assert re.findall(r"Local Test \d Reward: (.*)", output) == ["0.0", "0.0", "0.0"]
    assert output.count(f"[local_test_id] {REFUSED}") == 3


@pytest.mark.usefixtures("agent")
def test_the_training_loop_runs_beside_a_server_in_another_terminal(block, run_script: RunScript, tmp_path) -> None:
    (tmp_path / "terminal").mkdir()
    command = [sys.executable, "-m", "agentlightning", "server", "start", "--host", "0.0.0.0", "--port", "0"]
    server = subprocess.Popen(
        command, cwd=tmp_path / "terminal", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert server.stdout is not None
    port = server.stdout.readline().rpartition(":")[2].strip()
    try:
        output = printed(run_script(block("The trainer", {'"http://localhost:8000"': f'"http://localhost:{port}"'})))
    finally:
        server.terminate()
        server.communicate(timeout=30)
    assert server.returncode == 0
    assert "----- Training Iteration 5/5 -----\nWorker processing task 1: Addition 1" in output
    assert "Optimizer received reward for iter_4_task_4: 0.0\nCurrent average reward: 0.00" in output
    assert f"Final rewards collected by optimizer: {[0.0] * 25}" in output


ENHANCED = """
import asyncio
import math

from agentlightning.trainer import Trainer
from agentlightning.types import AgentLightningTask, AgentResource
from simple_agent import SimpleMathAgent, mock_llm_add


def number(text: str) -> float:
    return float(text) if text.strip().isdigit() else math.nan


class EnhancedMathAgent(SimpleMathAgent):
    async def training_rollout(
        self, task: AgentLightningTask, rollout_id: str, resources: dict[str, AgentResource]
    ) -> float:
        question, _, rest = task.context.partition("(Expected:")
        expected = number(rest.rstrip(")"))
        answer = number((await mock_llm_add(question)).removeprefix("Result:"))
        if math.isnan(expected) and math.isnan(answer):
            return 0.5
        return 1.0 if answer == expected else 0.0


async def main() -> None:
    agent = EnhancedMathAgent()
    for question, expected in [("Add 10 and 5", 15), ("Add 7 and 3", 11), ("Tell me a joke", None)]:
        print(question, await agent.run_locally(question, expected))
    task = AgentLightningTask(name="Joke", context="Tell me a joke (Expected: None)")
    rollout = await Trainer(n_workers=1).dev(agent=agent, task=task)
    print("dev", rollout.final_reward, rollout.status)


asyncio.run(main())
"""


@pytest.mark.usefixtures("agent")
def test_exercise_1_rewards_an_agent_that_knows_what_it_cannot_do(run_script: RunScript) -> None:
    output = printed(run_script(ENHANCED))
    assert output.splitlines() == ["Add 10 and 5 1.0", "Add 7 and 3 0.0", "Tell me a joke 0.5", "dev 0.5 succeeded"]


IMPORTS = """
import asyncio
from agentlightning.trainer import Trainer
from agentlightning.types import AgentLightningTask, AgentResource
from simple_agent import SimpleMathAgent
"""


@pytest.mark.usefixtures("agent")
def test_exercise_2_looks_into_one_rollout_without_a_server(block, run_script: RunScript) -> None:
    output = printed(run_script(IMPORTS + block("The exercise")))
    rollout_id = re.search(r"^Rollout ID: (ro-[0-9a-f]{12})$", output, re.MULTILINE)
    assert rollout_id
    assert f"[{rollout_id[1]}] Agent received task: Dev Test - 'Add 20 and 22 (Expected: 42)'" in output
    assert "\nFinal Reward: 0.0\n" in output
    assert re.search(r"^Traces \(if any\): \[\{.*'name': 'agentlightning\.rollout'", output, re.MULTILINE)
    assert "\nResources (if any): {}\n" in output
