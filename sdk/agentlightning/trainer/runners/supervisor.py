"""The process between a trainer and its runners: starts them, starts them again, says how they died, ends them all.

Single-threaded and without a store, so that it may fork at any time. Knows runners only as something that runs.
"""

import contextlib
import faulthandler
import json
import logging
import os
import select
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any, Final

from agentlightning import logs

_log = logging.getLogger(__name__)

STOP_SECONDS: Final = 2.0
_DEATHS_AT_START: Final = 5
_DEATHS_AT_WORK: Final = 15
_HEALTHY_SECONDS: Final = 30.0
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.0
_LONGEST_WORDS: Final = 8_000
_RETURNED: Final = b"returned\n"
_BEGAN: Final = b"began\n"
_WORKED: Final = b"worked\n"

RunRunner = Callable[["Life"], None]
"""Does the work of a runner process, and returns when the lifeline has ended or there is nothing more to do."""


@dataclass
class Life:
    """What a runner process is told of itself.

    Attributes:
        number: Which of the runners it is.
        count: How many it has been before.
        lifeline: A pipe that ends with the trainer.
    """

    number: int
    count: int
    lifeline: int
    _words: IO[bytes]
    _noted: set[bytes] = field(default_factory=set)

    def note_begun(self) -> None:
        """It has begun a rollout: it can start, and if it dies that is the rollout's doing, or somebody else's."""
        self._note(_BEGAN)

    def note_worked(self) -> None:
        """It has finished a rollout, so that its death will not be one of a row."""
        self._note(_WORKED)

    def say(self, words: str) -> None:
        """Leave last words, the first line of which is quoted."""
        os.write(self._words.fileno(), words.encode())

    def _note(self, what: bytes) -> None:
        if what not in self._noted:
            self._noted.add(what)
            os.write(self._words.fileno(), what)


@dataclass
class _Runner:
    """What the supervisor knows of a runner."""

    number: int
    life: int = -1
    pid: int = 0
    due: float | None = 0.0
    began: float = 0.0
    deaths: int = 0
    words: IO[bytes] = field(default_factory=tempfile.TemporaryFile)

    def count_death(self) -> int:
        """How many times it has died in a row, now that it has died again."""
        in_vain = _WORKED not in self._said() and time.monotonic() - self.began < _HEALTHY_SECONDS
        self.deaths = self.deaths + 1 if in_vain else 1
        return self.deaths

    def is_hopeless(self) -> bool:
        """Whether there is no point in starting it again."""
        return self.deaths >= (_DEATHS_AT_WORK if self._said().startswith(_BEGAN) else _DEATHS_AT_START)

    def has_returned(self) -> bool:
        """Whether it has ended by itself, its work done."""
        return self._said().endswith(_RETURNED)

    def last_words(self) -> str:
        """What it said of its death, the most important line first."""
        return self._said().removeprefix(_BEGAN).removeprefix(_WORKED).decode(errors="replace").strip()[:_LONGEST_WORDS]

    def _said(self) -> bytes:
        self.words.seek(0)
        return self.words.read()


class Supervisor:
    """Looks after runner processes, in one of its own.

    Args:
        count: How many.
        run_runner: What each of them does.
        lifeline: A pipe that ends with the trainer.
        news: Where it says what happens; see `RunnerProcesses`.
    """

    def __init__(self, count: int, run_runner: RunRunner, lifeline: int, news: int) -> None:
        self._run_runner = run_runner
        self._lifeline = lifeline
        self._news = news
        self._runners = [_Runner(number) for number in range(count)]

    def supervise(self) -> None:
        """Keep them running until the trainer is gone or there is no point in it; then end them, and this process."""
        os.setpgid(0, 0)
        self._woken = _wake_on(signal.SIGCHLD)
        try:
            while not self._trainer_is_gone() and self._reap():
                self._start_what_is_due()
        except OSError as error:  # too many processes, no memory
            self._tell(given_up=f"no process can be started for them: {error}")
        self._end_all()

    def _start_what_is_due(self) -> None:
        for runner in self._runners:
            if runner.due is not None and runner.due <= time.monotonic():
                self._fork(runner)

    def _fork(self, runner: _Runner) -> None:
        _log.info("Starting worker process %d...", runner.number)
        runner.life += 1
        runner.due, runner.began = None, time.monotonic()
        runner.words.seek(0)
        runner.words.truncate()
        runner.pid = os.fork()
        if runner.pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(self._news)
            life = Life(runner.number, runner.life, self._lifeline, runner.words)
            in_child(lambda: _live(life, self._run_runner), runner.words)

    def _trainer_is_gone(self) -> bool:
        """Wait for whatever comes first: the trainer's end, a child's death, a restart that is due."""
        due = min((runner.due for runner in self._runners if runner.due is not None), default=None)
        timeout = None if due is None else max(0.0, due - time.monotonic())
        ready = ready_of(self._lifeline, self._woken, seconds=timeout)
        _drain(self._woken)
        return self._lifeline in ready

    def _reap(self) -> bool:
        """Have the dead started again; whether there is a point in going on."""
        for runner, code in self._dead():
            if runner.has_returned():
                continue
            deaths = runner.count_death()
            how, words = how_ended(code), runner.last_words()
            self._tell(died=runner.number, life=runner.life, how=how, words=words)
            if runner.is_hopeless():
                self._tell(given_up=f"runner {runner.number} died {deaths} times in a row: {summary(how, words)}")
                return False
            pause = min(_FIRST_PAUSE * 2 ** (deaths - 1), _LONGEST_PAUSE)
            _log.warning("[Worker %d] Died: %s. Started again in %.1f s.", runner.number, summary(how, words), pause)
            runner.due = time.monotonic() + pause
        if all(not runner.pid and runner.due is None for runner in self._runners):
            self._tell(finished=True)
        return True

    def _tell(self, **news: Any) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._news, json.dumps(news).encode() + b"\n")

    def _dead(self) -> list[tuple[_Runner, int]]:
        by_pid = {runner.pid: runner for runner in self._runners if runner.pid}
        dead = []
        while by_pid:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if runner := by_pid.pop(pid, None):
                runner.pid = 0
                dead.append((runner, os.waitstatus_to_exitcode(status)))
        return dead

    def _end_all(self) -> None:
        """The lifeline has told the runners; who does not listen is killed, with what agents have started, and this."""
        os.close(self._lifeline)
        deadline = time.monotonic() + STOP_SECONDS
        while any(runner.pid for runner in self._runners) and (left := deadline - time.monotonic()) > 0:
            if not self._dead():
                ready_of(self._woken, seconds=left)
                _drain(self._woken)
        os.killpg(0, signal.SIGKILL)


def summary(how: str, words: str) -> str:
    """How a process died in a line, with the first of its last words."""
    return f"{how} ({words.splitlines()[0]})" if words else how


def _live(life: Life, run_runner: RunRunner) -> None:
    """Be a runner, whose last words are kept, also of a crash."""
    faulthandler.enable(life._words, all_threads=False)
    threading.Thread(target=_end_with, args=(life.lifeline,), name="lifeline", daemon=True).start()
    run_runner(life)
    os.write(life._words.fileno(), _RETURNED)


def _end_with(lifeline: int) -> None:
    """End, some time after the trainer has: nobody else would, where the supervisor is gone too."""
    ready_of(lifeline)
    time.sleep(2 * STOP_SECONDS)
    os._exit(1)


def how_ended(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    hint = ", as the kernel does when memory runs out" if code == -signal.SIGKILL else ""
    return f"was killed by {signal.Signals(-code).name}{hint}"


def in_child(work: Callable[[], None], words: IO[bytes] | None = None) -> None:
    """Do the work of a forked child and end it, never returning into what its parent was doing."""
    code = 1
    try:
        # Ctrl-C is for the trainer, who decides what follows; and nobody types into a process in the background.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        logs.print_whole_lines()
        work()
        code = 0
    except BaseException as error:
        _log.exception("process %d failed", os.getpid())
        if words is not None:
            first = traceback.format_exception_only(error)[-1].partition("\n")[0]
            os.write(words.fileno(), f"{first}\n{''.join(traceback.format_exception(error))}".encode())
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def ready_of(*pipes: int, seconds: float | None = None) -> list[int]:
    """The pipes that have something to say, if only that they have ended, once one of them has or the time is over."""
    poll = select.poll()
    for pipe in pipes:
        poll.register(pipe, select.POLLIN)
    return [pipe for pipe, _ in poll.poll(None if seconds is None else seconds * 1000)]


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
