"""How the processes of an attempt end: all of them, asked first, then killed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.runner.command import tree

Work = Callable[..., Awaitable[Any]]
WAIT = "while :; do sleep 0.05; done"
TIME_IS_SHORT = agl.RolloutConfig(timeout_seconds=0.3)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize(
    "child", ["sleep 1000", "setsid sleep 1000", "env -i sleep 1000", "sh -c 'sleep 1000 & echo $!; wait'"]
)
async def test_what_it_leaves_behind_is_ended_with_it(work: Work, child: str) -> None:
    done = await work(f"{child} & echo $!")
    assert done.rollout.status == "succeeded"
    assert [pid for pid in done.stdout.split() if is_running(int(pid))] == []


async def test_one_that_cannot_be_found_and_holds_its_output_does_not_hang_it(work: Work) -> None:
    done = await work("setsid env -i sleep 1000 & echo $!")
    os.kill(int(done.stdout), signal.SIGKILL)
    assert done.rollout.status == "succeeded"


async def test_out_of_time_it_is_asked_to_end_and_what_it_says_then_is_kept(work: Work) -> None:
    done = await work(f"trap 'echo stopped; exit 0' TERM; echo began; {WAIT}", config=TIME_IS_SHORT)
    assert done.stdout == "began\nstopped\n"
    assert (done.attempt.status, done.failure[0]) == ("timeout", "timeout")


async def test_one_that_is_stopped_hears_that_it_is_to_end(work: Work) -> None:
    done = await work("trap 'echo stopped; exit 0' TERM; kill -STOP $$", config=TIME_IS_SHORT)
    assert done.stdout == "stopped\n"


async def test_what_does_not_end_when_asked_is_killed(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "GRACE_SECONDS", 0.2)
    done = await work(f"trap '' TERM; setsid sh -c 'trap \"\" TERM; {WAIT}' & echo $$ $!; {WAIT}", config=TIME_IS_SHORT)
    assert [pid for pid in done.stdout.split() if is_running(int(pid))] == []


async def test_what_is_begun_while_it_ends_is_ended_too(work: Work) -> None:
    trap = 'trap "setsid sleep 1000 & echo \\$!; exit" TERM'
    done = await work(f"{trap}; echo $$; {WAIT}", config=TIME_IS_SHORT)
    pids = done.stdout.split()
    assert (len(pids), [pid for pid in pids if is_running(int(pid))]) == (2, [])


async def test_an_attempt_that_is_cancelled_is_ended(work: Work, tmp_path: Path) -> None:
    cancel = f"{sys.executable} -m agentlightning rollouts cancel $AGL_ROLLOUT_ID --yes"
    done = await work(f"echo $$ > pid; {cancel}; {WAIT}")
    assert (done.rollout.status, is_running(int((tmp_path / "pid").read_text()))) == ("cancelled", False)


def test_the_guard_removes_the_folder_of_an_attempt_with_all_that_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "agl-1"
    (folder / "checkout" / "src").mkdir(parents=True)
    (folder / "checkout" / "main.c").touch()
    told = json.dumps({"attempt_id": "at-of-nobody", "folder": str(folder), "session": None})
    subprocess.run([sys.executable, "-I", "-S", tree.__file__], input=told, text=True, check=True)
    assert not folder.exists()
