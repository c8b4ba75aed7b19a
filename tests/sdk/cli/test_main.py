"""`agl` itself: what it says when it cannot go on, and with which exit status."""

import subprocess
import sys
from pathlib import Path

import pytest
from agentlightning.cli import main


def command(*arguments: str, folder: Path | None = None) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "agentlightning", *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, cwd=folder)


def test_the_version_is_told() -> None:
    assert command("--version").stdout.startswith("agl 0.1.0")


def test_a_folder_without_a_store_is_an_error_with_the_way_out(tmp_path: Path) -> None:
    told = command("runs", "list", folder=tmp_path)
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr.startswith(f"agl: there is no store in {tmp_path}: ")
    assert "--store HOST:PORT" in told.stderr


def test_a_store_that_does_not_answer_is_an_error_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("agentlightning.cli.client._RETRY_SECONDS", 0.0)
    assert main(["runs", "list", "--store", "localhost:1"]) == 1
    message = capsys.readouterr().err
    assert message.startswith("agl: no store answers at localhost:1 ")
    assert message.endswith("is `agl store` running there?\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["runs", "list", "--store", "localhost:port"],
            "agl: argument --store: 'localhost:port' is no address of a store, such as localhost",
        ),
        (["rollout"], "agl: argument COMMAND: invalid choice: 'rollout'"),
        (["runs"], "agl: the following arguments are required: COMMAND (see agl runs --help)"),
    ],
)
def test_what_is_not_understood_is_one_line_with_the_way_out(arguments: list[str], message: str) -> None:
    told = command(*arguments)
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.startswith(message)
    assert told.stderr.count("\n") == 1
    assert "--help)" in told.stderr


def test_a_reader_who_has_seen_enough_is_no_error(store_address: str) -> None:
    line = f"{sys.executable} -m agentlightning runs list --store {store_address} | true; exit ${{PIPESTATUS[0]}}"
    told = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert told.stderr == ""
    assert told.returncode in (0, 141)
