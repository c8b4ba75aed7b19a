"""What commands print, on a terminal and elsewhere."""

import io

import pytest
from agentlightning.cli.show import output

TITLES = ("rollout", "status", "task")
ROWS = [("ro-1", "failed", "a long [task] " * 10), ("ro-2", None, "short")]


class Screen(io.StringIO):
    """What a terminal shows."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_only_the_last_column_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr("sys.stdout", screen)
    for variable, value in (("COLUMNS", "40"), ("TERM", "xterm"), ("NO_COLOR", "1")):
        monkeypatch.setenv(variable, value)
    output.print_table(TITLES, ROWS)
    lines = [line.rstrip() for line in screen.getvalue().splitlines()]
    assert [line.split()[:2] for line in lines[1:]] == [["ro-1", "failed"], ["ro-2", "-"]]
    assert lines[1].endswith("…") and len(lines[1]) <= 40


def test_elsewhere_columns_are_whole_and_plain(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(TITLES, ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ROLLOUT  STATUS  TASK"
    assert lines[1] == "ro-1     failed  " + ("a long [task] " * 10).rstrip()
    assert lines[2] == "ro-2     -       short"


def test_an_empty_table_says_so_beside_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(TITLES, [])
    told = capsys.readouterr()
    assert (told.out, told.err) == ("ROLLOUT  STATUS  TASK\n", "there are none\n")


def test_bytes_are_base64_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"raw": b"\xff", "text": "\u00e9"})
    assert capsys.readouterr().out == '{"raw": "/w==", "text": "\u00e9"}\n'
