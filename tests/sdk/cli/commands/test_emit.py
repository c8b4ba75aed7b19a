"""`agl emit` outside of a rollout, and what it refuses. `tests/sdk/runner/command` has it inside of one."""

import subprocess
import sys

import pytest
from agentlightning.cli.main import main

INSIDE = {"AGL_STORE": "localhost:1", "AGL_ROLLOUT_ID": "ro-1", "AGL_ATTEMPT_ID": "at-1"}


@pytest.mark.parametrize("missing", INSIDE)
def test_it_says_that_there_is_no_rollout(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in INSIDE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(missing)
    assert main(["emit", "reward", "1"]) == 2
    assert capsys.readouterr().err == (
        f"agl: there is no rollout here, as {missing} is not set: agl runner --command sets it for the command that it "
        "runs\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reward", "nan"], "the reward is 'nan', expected a finite number, or NAME=NUMBER"),
        (["reward", "fits=good"], "the reward is 'fits=good', expected a finite number, or NAME=NUMBER"),
        (["reward", "=1"], "the reward is '=1', expected a finite number, or NAME=NUMBER"),
        (["reward", "1", "0"], "the reward is '1 0', expected each number by its own name"),
        (["span", "search", "--attribute", "found"], "--attribute is 'found', expected KEY=VALUE"),
    ],
)
def test_what_cannot_be_recorded_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["emit", *arguments]) == 2
    assert message in capsys.readouterr().err


async def test_it_fails_where_the_store_does_not_know_the_rollout(
    store_address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (INSIDE | {"AGL_STORE": store_address}).items():
        monkeypatch.setenv(name, value)
    assert main(["emit", "reward", "1"]) == 1
    assert "ro-1" in capsys.readouterr().err


def test_an_address_is_refused_that_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (INSIDE | {"AGL_STORE": "ftp://localhost:1"}).items():
        monkeypatch.setenv(name, value)
    assert main(["emit", "reward", "1"]) == 1
    assert "address is 'ftp://localhost:1', expected host:port" in capsys.readouterr().err


def test_it_imports_neither_the_client_nor_the_other_commands() -> None:
    script = """
import os, sys
from agentlightning.cli import main
assert main(["emit", "reward", "1"]) == 2
assert not {"pydantic", "rich", "opentelemetry.sdk", "agentlightning.store"} & {*sys.modules}
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ended.returncode, "there is no rollout here" in ended.stderr) == (0, True), ended.stderr
