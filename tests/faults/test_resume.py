"""A trainer that is killed or interrupted at random points and resumed: the same prompt, nothing paid for twice."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from agentlightning import LightningStoreClient
from agentlightning.store.embedded import EmbeddedStore
from agentlightning.testing import ChatReply, ChatRequest, OpenAIServer

BOUND = 60.0
at_length = pytest.mark.skipif(os.environ.get("AGL_TEST_LENGTH") != "long", reason="`make faults` runs it")
RUNNERS, IN_FLIGHT = 2, 2
ROLLOUTS = 63
FULL = "gradient_batch_size=3, val_batch_size=4, beam_width=1, branch_factor=2, beam_rounds=2"
RACE = 'selection="race", minibatch_size=3, block_size=3'
SCRIPT = """
import sys
import agentlightning as agl
from openai import AsyncOpenAI, OpenAI

URL = sys.argv[1]

def agent(task: str, prompt: agl.PromptTemplate) -> float:
    with OpenAI(api_key="none", base_url=URL) as client:
        message = {"role": "user", "content": prompt.format(task=task)}
        reply = client.chat.completions.create(model="agent", messages=[message])
    return float(reply.choices[0].message.content)

apo = agl.APO(
    AsyncOpenAI(api_key="none", base_url=URL), %s
)
trainer = agl.Trainer(
    algorithm=apo, n_runners=2, initial_resources={"prompt": "Go: {task}"}, budget=agl.Budget(rollouts=%d),
)
tasks = [str(number) for number in range(12)]
result = trainer.fit(agent, tasks[:6], val_dataset=tasks[6:], test_dataset=tasks[:4])
print("BEST", result.best_resources["prompt"].template)
"""


class Training:
    """A script that is trained with a stand-in for its models, and killed when these are asked for the n-th time."""

    def __init__(self, folder: Path, settings: str, number: signal.Signals = signal.SIGKILL) -> None:
        self.number = number
        folder.mkdir()
        self.folder = folder
        self.asked = 0
        self._kill_at = -1
        self._process: subprocess.Popen[str] | None = None
        (folder / "train.py").write_text(SCRIPT % (settings, ROLLOUTS))

    def answer(self, request: ChatRequest) -> ChatReply:
        self.asked += 1
        if self.asked == self._kill_at and self._process is not None:
            self._process.send_signal(self.number)
        text = request.messages[0]["content"]
        if request.model == "agent":
            return ChatReply(str(int(request.digest[:4], 16) / 0xFFFF))
        if "<critique>" not in text:
            return ChatReply(f"Say {request.digest[:6]}.")
        return ChatReply(f"Go {request.digest[:6]}: {{task}}")

    def run(self, *command: str, kill_after: int | None = None) -> tuple[int, str]:
        """Run a command to its end, or until the models were asked so often."""
        self._kill_at = -1 if kill_after is None else self.asked + kill_after
        self._process = subprocess.Popen(
            [sys.executable, *command], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        output, _ = self._process.communicate(timeout=BOUND)
        return self._process.returncode, output

    def start(self, url: str, kill_after: int | None = None) -> tuple[int, str]:
        return self.run("train.py", url, kill_after=kill_after)

    def resume(self, *flags: str, kill_after: int | None = None) -> tuple[int, str]:
        return self.run("-m", "agentlightning", "runs", "resume", self.run_id, *flags, kill_after=kill_after)

    @property
    def run_id(self) -> str:
        [folder] = (self.folder / ".agentlightning").glob("run-*")
        return folder.name

    def attempts(self) -> tuple[list[int], list[int]]:
        """How many attempts each rollout of the agent took, and how often each model call was made."""

        async def read(address: str) -> tuple[list[int], list[int]]:
            rollouts = await LightningStoreClient(address).query_rollouts()
            counts: tuple[list[int], list[int]] = ([], [])
            for rollout in rollouts:
                counts[rollout.labels.get("kind") == "optimizer"].append(rollout.attempt.sequence_id)  # type: ignore[union-attr]
            return counts

        with EmbeddedStore(self.folder / ".agentlightning") as store:
            return asyncio.run(read(store.address))


def best(output: str) -> str:
    found = [line for line in output.splitlines() if line.startswith("BEST ")]
    assert found, output
    return found[-1]


@pytest.mark.parametrize(
    ("settings", "number"),
    [
        pytest.param(FULL, signal.SIGKILL, id="full"),
        pytest.param(RACE, signal.SIGKILL, id="race", marks=at_length),
        pytest.param(FULL, signal.SIGINT, id="full-interrupted", marks=at_length),
    ],
)
def test_a_run_that_is_killed_and_resumed_comes_to_the_same_and_pays_nothing_twice(
    tmp_path: Path, settings: str, number: signal.Signals, times: Callable[[int, int], int], tell: Callable[[str], None]
) -> None:
    undisturbed, killed = Training(tmp_path / "undisturbed", settings), Training(tmp_path / "killed", settings, number)
    with OpenAIServer(undisturbed.answer) as server:
        code, output = undisturbed.start(server.base_url)
    assert code == 0, output
    expected, total = best(output), undisturbed.asked
    rollouts, calls = undisturbed.attempts()
    assert max(rollouts) == max(calls) == 1 and len(rollouts) <= ROLLOUTS
    kills = times(1, 10)
    points = sorted(random.sample(range(1, total - RUNNERS), kills))
    with OpenAIServer(killed.answer) as server:
        code, output = killed.start(server.base_url, kill_after=points[0])
        assert code == -number, output
        for before, point in pairwise(points):
            code, output = killed.resume(kill_after=point - before)
            assert code == -number, output
        code, output = killed.resume()
    assert code == 0, output
    assert best(output) == expected
    again, calls_again = killed.attempts()
    assert (len(again), len(calls_again)) == (len(rollouts), len(calls))
    repeated, asked_again = sum(again) - len(again), sum(calls_again) - len(calls_again)
    # A runner has one rollout at work, and may be claiming the next.
    assert repeated <= kills * 2 * RUNNERS and asked_again <= kills * IN_FLIGHT
    tell(
        f"resume: {kills} times {number.name} for a trainer: the same prompt, {repeated} of {len(again)} rollouts and "
        f"{asked_again} of {len(calls_again)} calls begun again"
    )
