"""Runs a training script as a user does, in a process and a folder of its own, and sees what it leaves behind."""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_TRAIN = """
import logging, os, sys, time
import agentlightning as agl

logging.basicConfig(level=logging.WARNING)

def agent(task, prompt_template: agl.PromptTemplate) -> float:
    {agent}
    return float(len(prompt_template.format(x=task)))

@agl.algo
async def try_all(store, train_dataset):
    best = await store.add_resources({{"prompt_template": "longer {{x}}"}})
    enqueued = [await store.enqueue_rollout(task, "train", best.resources_id) for task in train_dataset]
    rollouts = [rollout.rollout_id for rollout in enqueued]
    print("TRAINING", flush=True)
    await store.wait_for_rollouts(rollouts)
    print("REWARDS", sorted(r.attempt.final_reward for r in await store.query_rollouts(rollouts)), flush=True)

trainer = agl.Trainer(algorithm=try_all, n_runners=2, initial_resources={{"prompt_template": "{{x}}"}}, {options})
{fit}
"""


class Training:
    """A training script at work."""

    def __init__(self, folder: Path, text: str) -> None:
        self.folder = folder
        (folder / "script.py").write_text(text)
        self.process = subprocess.Popen(
            [sys.executable, "-u", "script.py"],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.output = ""

    def wait_for(self, text: str) -> None:
        """Read the script's output up to a line with this text."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if text in line:
                return
        raise AssertionError(f"{text!r} never came:\n{self.output}")

    def finish(self) -> int:
        """Wait for the script's end; every process that shares its output has ended then, too."""
        self.output += self.process.communicate(timeout=60)[0]
        return self.process.returncode

    def left_over(self) -> list[int]:
        """The processes that still work in the script's folder, those that are just ending not counted."""
        here = [
            int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and self._works_here(entry)
        ]
        return [pid for pid in here if not _ends(pid)]

    def _works_here(self, entry: Path) -> bool:
        try:
            return Path(os.readlink(entry / "cwd")) == self.folder
        except OSError:
            return False


def _ends(pid: int) -> bool:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended, _, _ = select.select([process], [], [], 10)
    os.close(process)
    return bool(ended)


Start = Callable[..., Training]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a training script; `agent`, `options` and `fit` are code to put into it."""
    started: list[Training] = []

    def start_training(agent: str = "pass", options: str = "", fit: str = "trainer.fit(agent, ['a', 'b'])") -> Training:
        started.append(Training(tmp_path, _TRAIN.format(agent=agent, options=options, fit=fit)))
        return started[-1]

    yield start_training
    for training in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(training.process.pid, signal.SIGKILL)
        training.process.communicate()
