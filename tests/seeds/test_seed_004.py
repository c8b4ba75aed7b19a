"""Seed 004, Getting Started: its server and its client, put together of its steps, in two terminals."""

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agentlightning.testing import ChatReply, ChatRequest, OpenAIServer

Block = Callable[..., str]
Start = Callable[[str, str], "subprocess.Popen[str]"]


def answer(request: ChatRequest) -> ChatReply:
    return ChatReply(f"Paris, says one told {request.messages[0]['content']!r}.")


@pytest.fixture
def port() -> int:
    """A port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def start(tmp_path: Path, model: OpenAIServer) -> Iterator[Start]:
    """Starts a script in a terminal of its own, where the environment names the model."""
    assert os.environ["OPENAI_BASE_URL"] == model.base_url
    terminals: list[subprocess.Popen[str]] = []

    def start_script(name: str, text: str) -> "subprocess.Popen[str]":
        (tmp_path / name).write_text(text)
        command = [sys.executable, "-u", name]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        terminals.append(subprocess.Popen(command, cwd=tmp_path, text=True, start_new_session=True, **pipes))
        return terminals[-1]

    yield start_script
    for terminal in terminals:
        terminal.kill()
        terminal.communicate()


def client(block: Block, port: int) -> str:
    task = textwrap.indent(block("The task") + block("The reward"), " " * 8)
    return "\n".join(["import openai, random", block("The agent") + task, block("The trainer", at(port))])


def server(block: Block, port: int) -> str:
    """The steps of the server's function; it remembers each prompt with its reward, and says what it got."""
    steps = textwrap.indent(block("The tasks and results") + REMEMBERED, " " * 4)
    loop = "prompt_and_rewards = []\n" + block("The prompts") + steps + block("The best prompt")
    body = textwrap.indent(loop, " " * 4)
    return f"{block('The server', at(port))}{body}\nasyncio.run(prompt_optimization())\n"


def at(port: int) -> dict[str, str]:
    """Another port than that of the seed, which may be taken here."""
    return {"9997": str(port)}


REMEMBERED = """
prompt_and_rewards.append((prompt, reward))
print(reward, rollout.task, rollout.triplets[0].response["raw_content"][0]["content"], len(rollout.traces))
"""


def test_two_workers_try_the_prompts_of_a_server_that_starts_after_them(block: Block, start: Start, port: int) -> None:
    workers = start("client.py", client(block, port))
    assert workers.stdout is not None
    assert workers.stdout.readline().endswith(" [INFO] Initializing Trainer...\n")
    algorithm = start("server.py", server(block, port))
    output = algorithm.communicate(timeout=60)[0]
    assert algorithm.returncode == 0, output
    results = re.findall(r"^(0\.\d+) \{'prompt': '(.*)'\} Paris, says one told '(.*)'\. \d$", output, re.MULTILINE)
    assert [prompt for _, _, prompt in results] == [
        "You are a helpful assistant.",
        "You are a knowledgeable AI.",
        "You are a friendly chatbot.",
    ]
    best, _, prompt = max(results, key=lambda result: float(result[0]))
    assert f"Best prompt: '{prompt}' with reward {float(best):.3f}\n" in output
    workers.send_signal(signal.SIGINT)
    said = workers.communicate(timeout=30)[0]
    assert workers.returncode == -signal.SIGINT
    assert f"2 runner(s) at work for the store at http://127.0.0.1:{port}, until Ctrl-C\n" in said
    assert all(f"[INFO] Starting worker process {number}...\n" in said for number in (0, 1))
    assert len(re.findall(r"\[INFO\] \[Worker [01] \| Rollout ro-\w+\] Completed in ", said)) == 3
