"""`agl` itself: what it says when it cannot go on, and with which exit status."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.cli import main

Agl = Callable[..., Awaitable[Any]]


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("agl 0.1.0")


def test_a_folder_without_a_store_is_an_error_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["runs", "list"]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"agl: there is no store in {tmp_path}: ")
    assert "--store HOST:PORT" in message
    assert not [*tmp_path.iterdir()]


def test_a_store_that_does_not_answer_is_an_error_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("agentlightning.cli.which.client._RETRY_SECONDS", 0.0)
    assert main(["runs", "list", "--store", "localhost:1"]) == 1
    message = capsys.readouterr().err
    assert message.startswith("agl: no store answers at localhost:1 ")
    assert message.endswith("is `agl store` running there?\n")


async def test_a_file_that_cannot_be_written_is_an_error_that_names_it(
    store: agl.LightningStoreClient, command: Agl, tmp_path: Path
) -> None:
    update = await store.add_resources({"prompt": "Hi"})
    (tmp_path / "prompt.txt").mkdir()
    told = await command("resources", "export", update.resources_id, "--to", str(tmp_path / "prompt.txt"))
    assert (told.status, told.err) == (1, f"agl: {tmp_path / 'prompt.txt'}: Is a directory\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs", "list", "--store", "localhost:port"], "argument --store: 'localhost:port' is no address of a store"),
        (["rollout"], "argument COMMAND: invalid choice: 'rollout'"),
        (["runs"], "the following arguments are required: COMMAND (see agl runs --help)"),
        ([], "the following arguments are required: COMMAND (see agl --help)"),
    ],
)
def test_what_is_not_understood_is_one_line_with_the_way_out(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    told = capsys.readouterr()
    assert (ended.value.code, told.out) == (2, "")
    assert told.err.startswith(f"agl: {message}")
    assert told.err.count("\n") == 1
    assert "--help)" in told.err


async def test_a_reader_who_has_seen_enough_is_no_error(store: agl.LightningStoreClient, store_address: str) -> None:
    await store.create_run("APO")
    line = f"{sys.executable} -m agentlightning runs list --store {store_address} | true; exit ${{PIPESTATUS[0]}}"
    told = await asyncio.to_thread(subprocess.run, ["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert told.stderr == ""
    assert told.returncode in (0, 141)
