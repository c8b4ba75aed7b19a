"""What holds of an agent under `@agl.rollout`, whatever it is written with: against the real packages, on loopback."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import agentlightning as agl

from .conftest import EXAMPLES, Run

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}


def called(message: dict[str, Any]) -> list[tuple[str, str]]:
    return [(call["function"]["name"], call["function"]["arguments"]) for call in message["tool_calls"]]


async def test_each_call_of_the_model_is_a_conversation_with_its_tools(run: Run) -> None:
    first, second = agl.TraceToMessages().adapt(await run(agl.Tracer()))
    assert [message["role"] for message in first["messages"]] == ["user", "assistant"]
    assert first["messages"][0]["content"] == "Is it warmer in Oslo or in Rome?"
    assert called(first["messages"][1]) == [("temperature", '{"place": "Oslo"}'), ("temperature", '{"place": "Rome"}')]
    assert [tool["function"]["name"] for tool in first["tools"] or ()] == ["temperature"]
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "tool", "tool", "assistant"]
    assert [message["content"] for message in second["messages"][2:]] == ["-4", "14", "It is warmer in Rome."]


async def test_the_calls_of_the_first_answer_are_those_that_the_second_question_holds(run: Run) -> None:
    first, second = agl.TraceToMessages().adapt(await run(agl.Tracer()))
    assert first["messages"][1]["tool_calls"] == second["messages"][1]["tool_calls"]


async def test_the_reward_is_recorded(run: Run) -> None:
    assert agl.find_final_reward(await run(agl.Tracer())) == 0.5


def test_the_script_finds_a_better_prompt_without_a_network(folder: str, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / folder / "train.py")]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SIMULATION" in done.stdout.splitlines()[0]
    assert "validation 0.50 -> 1.00, test 0.50 -> 1.00" in done.stdout
