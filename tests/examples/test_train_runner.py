"""The room selector trained with a runner that knows nothing of ours, by its command; and with two that do not work."""

import os
import re
import signal
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
RUNNER = [sys.executable, str(Path(__file__).with_name("foreign_runner.py"))]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
MARK = f"AGL_TEST_MARK={uuid.uuid4().hex}"


def train(*command: str, folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-u", str(EXAMPLES / "room_selector/train_runner.py"), *command],
        cwd=folder,
        env=ENVIRONMENT | dict([MARK.split("=")]),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def left_over() -> list[str]:
    """The command lines of what is alive of it, whoever's child it is."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and MARK.encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@dataclass
class Trained:
    """A training that was interrupted and resumed.

    Attributes:
        folder: Where.
        interrupted: What it said until it was.
        left: The processes that were there after that.
        resumed: What it said afterwards.
    """

    folder: Path
    interrupted: str
    left: list[str]
    resumed: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("training")
    with train(*RUNNER, folder=folder) as process:
        assert process.stdout is not None
        said = ""
        while "round 1/2 val" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        os.killpg(process.pid, signal.SIGINT)
        said += process.communicate(timeout=30)[0]
    left = left_over()
    run_id = re.search(r"agl runs resume (run-\w+)", said)
    assert run_id, said
    resume = [sys.executable, "-m", "agentlightning", "runs", "resume", run_id[1]]
    done = subprocess.run(resume, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return Trained(folder, said, left, done.stdout)


def test_the_prompt_of_an_agent_in_another_language_gets_better(trained: Trained) -> None:
    line = trained.resumed.strip().splitlines()[-1]
    scores = re.match(r"validation (.*) -> (.*), test (.*) -> (.*), \d+ \+ 120 rollouts", line)
    assert scores, line
    before, after, test_before, test_after = map(float, scores.groups())
    assert after > before
    assert test_after > test_before


def test_its_models_are_said_to_be_a_simulation(trained: Trained) -> None:
    assert "SIMULATION" in trained.interrupted.splitlines()[0]


def test_its_first_conversation_is_shown(trained: Trained) -> None:
    assert re.search(r"check: asked: .*Find a meeting room on", trained.interrupted)
    assert re.search(r"check: answered: .*; reward \d", trained.interrupted)


def test_its_tokens_are_counted(trained: Trained) -> None:
    calls = re.search(r"^tokens: gpt-4.1-nano [\d,]+ in, [\d,]+ out \((\d+) calls\)", trained.resumed, re.MULTILINE)
    assert calls
    assert int(calls[1]) > 2 * 120


def test_ctrl_c_leaves_no_runner_no_model_and_no_store_behind(trained: Trained) -> None:
    assert trained.left == []


def test_all_that_it_keeps_is_in_one_folder(trained: Trained) -> None:
    assert os.listdir(trained.folder) == [".agentlightning"]


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (["./no-such-runner"], "TrainerError: command is ['./no-such-runner'], and there is no program"),
        (["sh", "-c", "echo cannot read the prompt >&2; exit 3"], "ended with exit code 3 (cannot read the prompt)"),
    ],
)
def test_a_command_that_is_no_runner_ends_the_training(command: list[str], error: str, tmp_path: Path) -> None:
    with train(*command, folder=tmp_path) as process:
        said = process.communicate(timeout=30)[0]
    assert process.returncode == 1
    assert error in said.splitlines()[-1]
    assert "Traceback" not in said
    assert left_over() == []
