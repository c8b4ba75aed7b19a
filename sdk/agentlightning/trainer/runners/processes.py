"""Runner processes: forked before gRPC is touched, started again when they die, gone with their trainer.

A process beside a live gRPC channel must not be forked, so the supervisor, which never touches one, forks them all.
Every process watches the lifeline, a pipe whose other end only the trainer holds: however the trainer ends, they end.
The supervisor, the runners and whatever agents start are one process group, so that nothing of it can be left behind.
"""

import contextlib
import os
import signal
import sys
import time

from agentlightning.trainer.runners.supervisor import STOP_SECONDS, RunRunner, Supervisor, in_child, ready_of


class RunnerProcesses:
    """`count` runner processes under a supervisor.

    Args:
        count: How many.
        run_runner: What each of them does.

    Attributes:
        news: A pipe on which the supervisor says, each time as a line of JSON, which runner died (`{"died": 3, "life":
            0, "how": "was killed by SIGKILL", "words": ""}`), that all have done their share (`{"finished": true}`) and
            that it gives up (`{"given_up": "..."}`). It ends with the supervisor.
    """

    def __init__(self, count: int, run_runner: RunRunner) -> None:
        self._count = count
        self._run_runner = run_runner
        self._supervisor: int | None = None

    def start(self) -> None:
        """Fork the supervisor, which forks the runners."""
        lifeline, self._lifeline = os.pipe()
        self.news, news = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self._supervisor = os.fork()
        if self._supervisor == 0:
            os.close(self._lifeline)
            os.close(self.news)
            in_child(lambda: Supervisor(self._count, self._run_runner, lifeline, news).supervise())
        with contextlib.suppress(OSError):  # it was quicker, and this only makes sure of it
            os.setpgid(self._supervisor, self._supervisor)
        os.close(lifeline)
        os.close(news)

    def stop(self) -> None:
        """End all of them, within a few seconds whatever they are doing."""
        if self._supervisor is None:
            return
        os.close(self._lifeline)
        _wait_for_end(self.news, STOP_SECONDS + 1)
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the latter, where only zombies are left
            os.killpg(self._supervisor, signal.SIGKILL)
        os.waitpid(self._supervisor, 0)
        os.close(self.news)
        self._supervisor = None


def _wait_for_end(pipe: int, seconds: float) -> None:
    """Wait until the other end of a pipe is closed, but not for ever."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0 and ready_of(pipe, seconds=left):
        if not os.read(pipe, 4096):
            return
