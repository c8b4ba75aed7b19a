"""Where log lines are shown when a program says so, and when it says nothing."""

import io
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import agentlightning as agl
import pytest
from agentlightning import logs

_runner_log = logging.getLogger("agentlightning.runner.worker")


@pytest.fixture(autouse=True)
def left_as_found() -> Iterator[None]:
    logger = logging.getLogger("agentlightning")
    level, propagate = logger.level, logger.propagate
    yield
    agl.setup_logging(level, console=False, propagate=propagate)


def test_a_line_has_a_time_a_level_and_its_message(capsys: pytest.CaptureFixture[str]) -> None:
    agl.setup_logging()
    _runner_log.info("[Worker 0] Setting up tracer...")
    pattern = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \[INFO\] \[Worker 0\] Setting up tracer\.\.\.\n"
    assert re.fullmatch(pattern, capsys.readouterr().err)


def test_lines_below_the_level_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    agl.setup_logging("WARNING")
    _runner_log.info("hello")
    assert capsys.readouterr().err == ""


def test_a_part_may_have_a_level_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    agl.setup_logging("WARNING", submodule_levels={"agentlightning.a_part": "DEBUG"})
    logging.getLogger("agentlightning.a_part").debug("hello")
    assert "hello" in capsys.readouterr().err


def test_set_up_twice_a_line_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    agl.setup_logging()
    agl.setup_logging()
    _runner_log.info("hello")
    assert capsys.readouterr().err.count("hello") == 1


def test_lines_go_to_a_file_and_to_handlers_of_ones_own(tmp_path: Path) -> None:
    own = io.StringIO()
    agl.setup_logging(console=False, files=tmp_path / "log", extra_handlers=[logging.StreamHandler(own)])
    _runner_log.info("hello")
    assert "[INFO] hello" in (tmp_path / "log").read_text()
    assert own.getvalue() == "hello\n"


def test_a_program_that_configured_nothing_is_shown_the_lines_while_it_trains(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    with logs.shown(), logs.shown():
        _runner_log.info("hello")
    _runner_log.info("afterwards")
    assert capsys.readouterr().err.count("hello") == 1
    assert not logging.getLogger("agentlightning").handlers


def test_a_program_that_configured_logging_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [logging.NullHandler()])
    with logs.shown():
        _runner_log.info("hello")
    assert capsys.readouterr().err == ""


def test_a_level_that_the_program_set_holds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    logging.getLogger("agentlightning").setLevel(logging.ERROR)
    with logs.shown():
        _runner_log.warning("hello")
    assert capsys.readouterr().err == ""


async def test_a_runner_by_itself_shows_its_lines(
    store: agl.LightningStoreClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    runner = agl.LitAgentRunner[str](max_rollouts=1)
    rollout = await store.enqueue_rollout("why?")
    with runner.run_context(agent=lambda task: 1.0, store=store, worker_id=0):
        await runner.iter()
    said = capsys.readouterr().err
    for line in (
        "[INFO] [Worker 0] Setting up tracer...",
        "[INFO] [Worker 0] Instrumentation applied.",
        "[INFO] [Worker 0] Started async rollouts (max: 1).",
    ):
        assert line in said
    done = rf"\[INFO\] \[Worker 0 \| Rollout {rollout.rollout_id}\] Completed in \d+\.\d\ds\. Collected 2 span\(s\)\."
    assert re.search(done + r" Final reward: 1\.0", said)
