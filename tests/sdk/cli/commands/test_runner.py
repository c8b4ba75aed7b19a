"""What `agl runner` refuses, and how it keeps its processes. `tests/faults/test_runner_command.py` has it at work."""

import asyncio
from pathlib import Path

import pytest
from agentlightning.cli.main import main
from agentlightning.cli.runners.orders import Orders
from agentlightning.cli.runners.processes import Processes

BOUND = 20.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["math"], "agent is 'math', expected module:attribute, or path/file.py:attribute"),
        (["math:sqrt", "--concurrency", "0"], "argument --concurrency: '0' is no number of at least 1"),
        (["math:sqrt", "--drain-seconds", "soon"], "argument --drain-seconds: 'soon' is no number of seconds"),
        (["--command", "./nothing.sh"], "argument --command: command is './nothing.sh', and there is no such program"),
    ],
)
def test_what_is_not_understood_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["runner", *arguments, "--store", "localhost:1"])
    assert (end.value.code, message in capsys.readouterr().err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.py:agent"], "agl: there is no file '"),
        (["math:pi"], "agl: math:pi: an agent is a LitAgent or a function; 3.14"),
        (["math:sqrt", "--instrumentor", "nothing"], "nothing"),
    ],
)
def test_what_cannot_be_run_is_an_error_of_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runner", *arguments, "--store", "localhost:1"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize(
    ("arguments", "said"), [(["math:sqrt", "--command", "echo 1"], "both 'math:sqrt' and --command"), ([], "neither")]
)
def test_there_is_one_agent(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runner", *arguments, "--store", "localhost:1"]) == 2
    assert f"the agent is MODULE:AGENT or --command, and here is {said}: name one" in capsys.readouterr().err


def test_an_agent_that_is_named_goes_before_a_command_that_is_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGL_COMMAND", "echo 1")
    assert main(["runner", "nowhere.py:agent", "--store", "localhost:1"]) == 1
    assert "agl: there is no file '" in capsys.readouterr().err


async def run(script: str, count: int, orders: Orders | None = None) -> int:
    processes = Processes(["sh", "-c", script], count, orders or Orders(), first_pause=0.01)
    return await asyncio.wait_for(processes.run(), BOUND)


async def test_a_process_that_dies_is_started_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    died = tmp_path / "died"
    assert await run(f"test -e {died} && exit 0; touch {died}; kill -9 $$", 1) == 0
    assert "Process 1 of 1 died with code -9, started again in 0.0 s." in caplog.messages


async def test_a_process_that_keeps_dying_ends_all(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    assert await run(f"mkdir {tmp_path}/first && exec cat; exit 3", 2) == 1
    assert " of 2 keeps dying, now with code 3: given up. What it said is above." in caplog.text


async def test_a_process_that_says_why_it_cannot_go_on_ends_all(tmp_path: Path) -> None:
    assert await run(f"mkdir {tmp_path}/first && exit 1; read order; read end; exit 0", 2) == 1


async def test_processes_are_told_to_drain(tmp_path: Path) -> None:
    orders = Orders()
    orders_are_given = asyncio.get_running_loop().call_soon(orders.drain.set)
    assert await run("read order; test $order = drain", 2, orders) == 0
    orders_are_given.cancel()
