"""Runner processes: forked before gRPC is touched, started again when they die, gone with their trainer.

A process beside a live gRPC channel must not be forked, so the supervisor, which never touches one, forks them all.
Every process watches the lifeline, a pipe whose other end only the trainer holds: however the trainer ends, they end.
"""

import contextlib
import logging
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Callable

_log = logging.getLogger(__name__)

_STOP_SECONDS = 4.0
_DEATHS_ALLOWED = 5
_DEATHS_WITHIN = 60.0
_FIRST_PAUSE = 0.1

RunRunner = Callable[[int, int], None]
"""Does the work of a runner process, given its number and the lifeline, and returns when the lifeline has ended."""


class RunnerProcesses:
    """`count` runner processes under a supervisor.

    Args:
        count: How many.
        run_runner: What each of them does.

    Attributes:
        news: A pipe on which the supervisor says, in a line each, which runner died (`died 3 -9`) and that it gives up
            (`given up: ...`). It ends with the supervisor.
    """

    def __init__(self, count: int, run_runner: RunRunner) -> None:
        self._count = count
        self._run_runner = run_runner

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
            _in_child(lambda: _Supervisor(self._count, self._run_runner, lifeline, news).supervise())
        os.close(lifeline)
        os.close(news)

    def stop(self) -> None:
        """End all of them, within a few seconds whatever they are doing."""
        os.close(self._lifeline)
        os.waitpid(self._supervisor, 0)


class _Supervisor:
    """Lives in a process of its own, single-threaded, so that it may fork at any time."""

    def __init__(self, count: int, run_runner: RunRunner, lifeline: int, news: int) -> None:
        self._count = count
        self._run_runner = run_runner
        self._lifeline = lifeline
        self._news = news
        self._number_of: dict[int, int] = {}
        self._restarts: dict[int, float] = {}
        self._deaths: deque[float] = deque()

    def supervise(self) -> None:
        # Ctrl-C reaches every process of the terminal: the trainer decides what follows.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._woken = _wake_on(signal.SIGCHLD)
        for number in range(self._count):
            self._fork(number)
        while not self._trainer_is_gone():
            self._reap()
            if len(self._deaths) > _DEATHS_ALLOWED:
                self._tell("given up: the runners keep dying, see the log for why")
                break
            for number in [number for number, due in self._restarts.items() if due <= time.monotonic()]:
                del self._restarts[number]
                self._fork(number)
        self._end_all()

    def _fork(self, number: int) -> None:
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(self._news)
            _in_child(lambda: self._run_runner(number, self._lifeline))
        self._number_of[pid] = number

    def _trainer_is_gone(self) -> bool:
        """Wait for whatever comes first: the trainer's end, a child's death, a restart that is due."""
        due = min(self._restarts.values(), default=None)
        timeout = None if due is None else max(0.0, due - time.monotonic())
        ready, _, _ = select.select([self._lifeline, self._woken], [], [], timeout)
        _drain(self._woken)
        return self._lifeline in ready

    def _reap(self) -> None:
        now = time.monotonic()
        while self._deaths and self._deaths[0] < now - _DEATHS_WITHIN:
            self._deaths.popleft()
        for number, code in self._dead():
            self._deaths.append(now)
            pause = _FIRST_PAUSE * 2 ** len(self._deaths)
            _log.warning("[Worker %d] Died with code %d, started again in %.1f s.", number, code, pause)
            self._tell(f"died {number} {code}")
            self._restarts[number] = now + pause

    def _tell(self, news: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._news, f"{news}\n".encode())

    def _dead(self) -> list[tuple[int, int]]:
        dead = []
        while self._number_of:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            dead.append((self._number_of.pop(pid), os.waitstatus_to_exitcode(status)))
        return dead

    def _end_all(self) -> None:
        """The lifeline has told them; whoever does not listen is killed."""
        deadline = time.monotonic() + _STOP_SECONDS
        os.close(self._lifeline)
        while self._number_of and (left := deadline - time.monotonic()) > 0:
            self._dead()
            if self._number_of:
                select.select([self._woken], [], [], left)
                _drain(self._woken)
        for pid in self._number_of:
            os.kill(pid, signal.SIGKILL)


def _in_child(work: Callable[[], None]) -> None:
    """Do the work of a forked child and end it, never returning into what its parent was doing."""
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        _log.exception("process %d failed", os.getpid())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wake_on(number: signal.Signals) -> int:
    """A file descriptor that becomes readable when the signal comes."""
    woken, waker = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(waker, False)
    signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(waker)
    return woken


def _drain(descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(descriptor, 1024):
            pass
