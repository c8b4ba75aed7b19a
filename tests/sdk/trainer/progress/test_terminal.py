"""The live lines by themselves: whatever becomes of them, nobody who prints is held up."""

import os
import subprocess
import sys

_SCRIPT = """
import os, sys
from agentlightning.trainer.progress.terminal import Terminal

def render():
    {render}

terminal = Terminal.taken(render)
print("TAKEN TWICE", Terminal.taken(render) is not None)
terminal.start()
for number in range(5000):
    print("line", number, "x" * 50)
sys.stdout.write("unfinished")
{meanwhile}
terminal.close()
print("END")
{afterwards}
"""


def shown(render: str, meanwhile: str = "", afterwards: str = "") -> str:
    """What a script wrote to its terminal."""
    terminal, end = os.openpty()
    script = _SCRIPT.format(render=render, meanwhile=meanwhile, afterwards=afterwards)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=end, stdout=end, stderr=end, env=os.environ | {"TERM": "xterm"}
    )
    os.close(end)
    written = b""
    try:
        while read := os.read(terminal, 1 << 16):
            written += read
    except OSError:  # nobody has the other end any more
        pass
    os.close(terminal)
    assert process.wait(30) == 0, written
    return written.decode().replace("\r\n", "\n")


def test_what_is_printed_is_shown_whole_and_in_order_and_the_rest_of_a_line_at_the_end() -> None:
    written = shown("return 'live'")
    lines = [line for line in written.split("\n") if "x" * 50 in line]
    assert [line.partition("line ")[2].split()[0] for line in lines] == [str(number) for number in range(5000)]
    assert "unfinished" in written


def test_lines_that_cannot_be_rendered_hold_nobody_up() -> None:
    written = shown("raise ValueError('no room')")
    assert "ValueError: no room" in written
    assert f"line 4999 {'x' * 50}\n" in written
    assert written.endswith("unfinishedEND\n")


def test_a_process_that_outlives_the_live_lines_is_not_waited_for() -> None:
    written = shown("return 'live'", "import subprocess; child = subprocess.Popen(['sleep', '600'])", "child.kill()")
    assert written.endswith("END\n")


def test_a_terminal_is_taken_once() -> None:
    assert "TAKEN TWICE False" in shown("return 'live'")
