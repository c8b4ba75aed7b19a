"""How far a run is, on a terminal and in a pipe, as one who looks at it sees it."""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agentlightning.trainer.progress.progress import Progress

_SCRIPT = """
import os, sys, time
import agentlightning as agl

def agent(task) -> float:
    os.write(1, f"agent {{task}}\\n".encode())
    {agent}
    return 0.5

print("BEFORE")
agl.Trainer(n_runners=2).fit(agent, list(range(12)))
print("AFTER", sys.stdout.isatty())
"""


_SPENDING_SCRIPT = """
import agentlightning as agl

def agent(task) -> float:
    usage = {"gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 500}
    agl.emit_annotation({"gen_ai.request.model": "m", "gen_ai.completion.0.content": "yes"} | usage)
    return 1 / (task != 7)

result = agl.Trainer(n_runners=2, prices={"m": (1.0, 2.0)}).fit(agent, list(range(40)))
print("RESULT", result.tokens["m"].calls, result.cost, result.statuses["failed"])
"""


class Screen:
    """A terminal that a script runs on, of 100 columns and endless length; knows what rich writes."""

    def __init__(self, folder: Path, script: str) -> None:
        (folder / "script.py").write_text(script)
        self._terminal, end = os.openpty()
        os.set_blocking(self._terminal, True)
        self.written = ""
        self.process = subprocess.Popen(
            [sys.executable, "script.py"],
            cwd=folder,
            stdin=end,
            stdout=end,
            stderr=end,
            start_new_session=True,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "100", "LINES": "50"},
        )
        os.close(end)

    def wait_for(self, text: str) -> None:
        """Read what is written until the text is, or until the end."""
        while text not in self.written:
            try:
                self.written += os.read(self._terminal, 1 << 16).decode(errors="replace")
            except OSError:  # nobody has the other end any more
                return

    def finish(self) -> int:
        self.wait_for("never written")
        return self.process.wait(30)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._terminal)

    @property
    def lines(self) -> list[str]:
        """What stands there at last."""
        lines, row, column = [""], 0, 0
        for control, count, text in re.findall(
            r"\x1b\[\??(\d*[A-Zh-ln])|\x1b\[[\d;]*m|(\n|\r)|([^\x1b\r\n]+)", self.written
        ):
            if control.endswith("A"):
                row -= int(control[:-1] or 1)
            elif control.endswith("K"):
                lines[row] = ""
            elif count == "\r":
                column = 0
            elif count == "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            else:
                lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
                column += len(text)
        return lines


@pytest.fixture
def show(tmp_path: Path) -> Iterator[Callable[[str], Screen]]:
    """Runs the script on a terminal; `agent` is code to put into its agent."""
    screens: list[Screen] = []

    def show_script(agent: str = "pass") -> Screen:
        screens.append(Screen(tmp_path, _SCRIPT.format(agent=agent)))
        return screens[-1]

    yield show_script
    for screen in screens:
        screen.close()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Screen]:
    """The terminal after a script that trained there."""
    screen = Screen(tmp_path_factory.mktemp("shown"), _SCRIPT.format(agent="time.sleep(0.05)"))
    try:
        assert screen.finish() == 0
        yield screen
    finally:
        screen.close()


def test_on_a_terminal_all_that_anybody_prints_stands_above_the_live_lines(shown: Screen) -> None:
    assert re.search(r"/12 rollouts.*\d+ running", shown.written, re.DOTALL)
    assert shown.lines[0] == "BEFORE"
    assert {f"agent {task}" for task in range(12)} < set(shown.lines)


def test_each_rollout_leaves_its_log_line_above_the_live_lines(shown: Screen) -> None:
    done = re.compile(r".* \[INFO\] \[Worker \d \| Rollout ro-\w+\] Completed in .*")
    assert len([line for line in shown.lines if done.fullmatch(line)]) == 13


def test_the_live_lines_are_gone_when_fit_is_done_and_the_terminal_is_given_back(shown: Screen) -> None:
    assert "━" in shown.written
    assert "━" not in "".join(shown.lines)
    assert shown.lines[-2:] == ["AFTER True", ""]
    assert shown.written.rfind("\x1b[?25h") > shown.written.rfind("\x1b[?25l")


def test_the_last_that_fit_says_is_what_the_run_came_to(shown: Screen) -> None:
    assert re.fullmatch(r"12 rollouts, \d+ s", shown.lines[-3])


def test_ctrl_c_leaves_no_live_line_and_its_traceback_whole(show: Callable[[str], Screen]) -> None:
    screen = show("task == 5 and time.sleep(600)")
    screen.wait_for("agent 5")
    os.killpg(screen.process.pid, signal.SIGINT)
    assert screen.finish() == -signal.SIGINT
    assert "━" not in "".join(screen.lines)
    assert "Traceback (most recent call last):" in screen.lines
    assert screen.lines[-2:] == ["KeyboardInterrupt", ""]


def test_an_error_leaves_no_live_line_and_its_traceback_whole(show: Callable[[str], Screen]) -> None:
    screen = show("raise ValueError('no room')")
    assert screen.finish() == 1
    assert "━" not in "".join(screen.lines)
    assert "agentlightning.errors.AgentCheckError: the first rollout failed with ValueError: no room" in screen.lines


@pytest.fixture(scope="module")
def piped(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a script that trained wrote to a pipe."""
    command = [sys.executable, "-c", _SPENDING_SCRIPT]
    done = subprocess.run(command, cwd=tmp_path_factory.mktemp("piped"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_in_a_pipe_it_is_a_line_now_and_then_with_what_is_known_of_the_run(piped: str) -> None:
    told = re.findall(r"^ *(\d+)/40 rollouts  train", piped, re.MULTILINE)
    assert len(told) <= 12
    assert told[-1] == "40"
    assert re.search(r"1 failed  .*/s  mean reward train \d.*  [\d,]+ tokens  cost 0\.\d{4}", piped)
    assert "\x1b" not in piped


def test_a_result_tells_what_the_models_of_all_rollouts_cost(piped: str) -> None:
    assert "RESULT 41 0.082 1" in piped
    assert "failed: 1 of 40 rollouts" in piped
    assert "tokens: m 41,000 in, 20,500 out (41 calls)\nspent: 0.0820\n" in piped


def test_a_phase_begins_with_a_line() -> None:
    out = io.StringIO()
    progress = Progress(out=out)
    for done in range(1, 101):
        progress("round 1/2 val", done, 200)
    for done in range(101, 201):
        progress("round 2/2 val", done, 200)
    assert len(out.getvalue().splitlines()) <= 13
    assert " 101/200 rollouts  round 2/2 val" in out.getvalue().splitlines()
    assert out.getvalue().splitlines()[-1] == " 200/200 rollouts  round 2/2 val"
