"""The guard of this process: ends what it has started for its attempts, should it be killed. Knows no agents."""

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any, Final

from agentlightning.runner.command import tree


class Guard:
    """A process that reads from a pipe whose other end only this one has: however this ends, it hears of it.

    It is started for the first attempt, and again where it was killed itself.
    """

    def __init__(self) -> None:
        self._running: dict[str, dict[str, Any]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._telling = threading.Lock()

    def tell(self, attempt_id: str, folder: Path, session: int | None = None) -> None:
        """Say what belongs to an attempt: its folder, and the session of its processes. It is to end with this process.

        Raises:
            OSError: The guard cannot be started.
        """
        told = {"attempt_id": attempt_id, "folder": os.fspath(folder), "session": session}
        with self._telling:
            self._running[attempt_id] = told
            if self._process is None or self._process.poll() is not None:
                self._start()
            else:
                self._write(told)

    def forget(self, attempt_id: str) -> None:
        """Say that all of an attempt has ended."""
        with self._telling:
            self._running.pop(attempt_id, None)
            if self._process is not None:
                self._write({"attempt_id": attempt_id, "folder": None})

    def close(self) -> None:
        """Let it go, at the end of this process."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._pipe.close()
            self._process.wait()

    def _start(self) -> None:
        # Without the mark of an attempt that this process may itself be part of, it outlives that, and ends the rest.
        environment = {name: value for name, value in os.environ.items() if name != tree.MARK}
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", tree.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            start_new_session=True,
            bufsize=0,
        )
        for told in self._running.values():
            self._write(told)

    def _write(self, told: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # it was killed: the next attempt starts another
            self._pipe.write(json.dumps(told).encode() + b"\n")

    @property
    def _pipe(self) -> IO[bytes]:
        assert self._process is not None and self._process.stdin is not None
        return self._process.stdin


_guards: Final[dict[int, Guard]] = {}


def own_guard() -> Guard:
    """The guard of this process; that of the one it was forked from is none of its."""
    pid = os.getpid()
    if pid not in _guards:
        _guards[pid] = Guard()
        atexit.register(_guards[pid].close)
    return _guards[pid]
