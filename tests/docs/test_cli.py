"""The lines of docs/cli.md run as they stand there, on ids of a store of their own."""

import argparse
import asyncio
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import agentlightning as agl
import pytest
from agentlightning.cli import main
from agentlightning.cli.program import parser as commands
from agentlightning.cli.settings import _commands as all_commands
from agentlightning.store.embedded import EmbeddedStore

DOCUMENT = Path(__file__).parents[2] / "docs/cli.md"
LINES = re.findall(r"^\| `agl (.*?)` \|", DOCUMENT.read_text(), re.MULTILINE)
ENDLESS = ("store", "server", "runner", "rollouts tail")
FOUND_NOTHING = ("rollouts cancel", "trace", "explain")
"""What ends with 1 where nothing waits and no span was recorded."""
BOUND = 30.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a store that is being served."""
    folder = tmp_path_factory.mktemp("trained")
    with EmbeddedStore(folder / ".agentlightning"):
        yield folder


@pytest.fixture
async def ids(folder: Path) -> dict[str, str]:
    """What stands for the ids of the document: a run with a failed rollout and an edited prompt, of the test's own."""
    with EmbeddedStore(folder / ".agentlightning") as served:
        store = agl.LightningStoreClient(served.address)
        run = await store.create_run("APO")
        bound = store.bind(run_id=run.run_id)
        first = await bound.add_resources({"prompt_template": "Book a room."})
        last = await bound.update_resources(first.resources_id, {"prompt_template": "Book a free room."})
        await bound.update_run(run.run_id, status="succeeded", best_resources=last)
        rollout = await bound.start_rollout({"seats": 4})
        failure = agl.Failure(kind="agent", type="ValueError", message="no room")
        await bound.complete_attempt(rollout.rollout_id, rollout.attempt.attempt_id, failure=failure)
    return {"run-4f1c": run.run_id, "ro-5f0c": rollout.rollout_id, "rs-81d2": last.resources_id}


@pytest.fixture
async def inside(folder: Path, ids: dict[str, str]) -> dict[str, str]:
    """What an agent that is a command has in its environment."""
    with EmbeddedStore(folder / ".agentlightning") as served:
        attempt = await agl.LightningStoreClient(served.address).get_latest_attempt(ids["ro-5f0c"])
        assert attempt is not None
        return {
            "AGL_STORE": served.address,
            "AGL_ROLLOUT_ID": attempt.rollout_id,
            "AGL_ATTEMPT_ID": attempt.attempt_id,
        }


def first_line(line: str, folder: Path) -> str:
    """What a command says first that never ends by itself."""
    command = [sys.executable, "-m", "agentlightning", *shlex.split(line)]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            return process.stdout.readline()
        finally:
            process.terminate()
            process.communicate(timeout=BOUND)


def on_ids_of_its_own(line: str, ids: dict[str, str], folder: Path) -> str:
    for name, known in ids.items():
        line = line.replace(name, known)
    return re.sub(r"[\w-]+\.(jsonl|txt|db|html)", lambda file: str(folder / file[0]), line)


@pytest.mark.parametrize("line", [line for line in LINES if not line.startswith(ENDLESS)])
async def test_a_line_of_the_document_does_what_it_says(
    line: str,
    folder: Path,
    ids: dict[str, str],
    inside: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    if line.startswith("emit"):
        for name, value in inside.items():
            monkeypatch.setenv(name, value)
    status = await asyncio.to_thread(main, shlex.split(on_ids_of_its_own(line, ids, tmp_path)))
    out, err = capsys.readouterr()
    assert out + err or line.startswith("emit")
    assert status == line.startswith(FOUND_NOTHING), err


def test_a_line_that_never_ends_begins(folder: Path, ids: dict[str, str], tmp_path: Path) -> None:
    serving, connecting, running, any_running, following = (line for line in LINES if line.startswith(ENDLESS))
    (folder / "agent.py").write_text("def select(task): return 1.0\n")
    assert first_line(f"{serving} --port 0", tmp_path).startswith("Store listening on ")
    assert "Serving .agentlightning/store.db at http://" in first_line(f"{connecting} --port 0", tmp_path)
    assert first_line(running, folder).endswith("Setting up tracer...\n")
    (folder / "agent.sh").write_text("#!/bin/sh\necho 1\n")
    (folder / "agent.sh").chmod(0o755)
    assert first_line(any_running, folder).endswith("Setting up tracer...\n")
    assert first_line(on_ids_of_its_own(following, ids, tmp_path), folder).startswith("following")


def leaves(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The commands that do something, but for `agl store`, which is the server's."""
    return [command for command in all_commands(parser) if not command._subparsers and command.prog != "agl store"]


@pytest.mark.parametrize("command", leaves(commands()), ids=lambda command: command.prog)
def test_the_help_of_a_command_says_what_it_does_and_has_an_example_that_is_understood(
    command: argparse.ArgumentParser,
) -> None:
    assert command.description
    example = re.fullmatch(r"example: agl (.*)", command.epilog or "")
    assert example, command.epilog
    assert command.prog == f"agl {example[1]}"[: len(command.prog)]
    commands().parse_args(shlex.split(example[1]))


@pytest.mark.parametrize("command", leaves(commands()), ids=lambda command: command.prog)
def test_a_command_stands_in_the_document(command: argparse.ArgumentParser) -> None:
    assert any(f"agl {line} ".startswith(f"{command.prog} ") for line in LINES)
