"""Servers and other processes of the tests' own, started, killed and waited for by their ids."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

BOUND = 10.0
"""Seconds after which a process that does not do what is waited for is taken as hanging, and killed."""


class Process:
    """A process that says something in its first line.

    Attributes:
        pid: Its id.
        greeting: Its first line, empty when it ended without one.
    """

    def __init__(self, command: list[str], log: Path, pass_stdin: bool = False) -> None:
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if pass_stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                bufsize=1,
            )
        self._log = log
        self.pid = self._process.pid
        self.greeting = self.read_line()

    @property
    def said(self) -> str:
        """What it and its predecessors wrote to stderr."""
        return self._log.read_text(errors="replace")

    def read_line(self) -> str:
        """Its next line; the process is killed if it says none."""
        with self._watched():
            return self._output.readline().rstrip("\n")

    def write_line(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def ask(self, line: str) -> str:
        """What it answers to a line."""
        self.write_line(line)
        return self.read_line()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self) -> None:
        """Have it sleep, and wait until it does."""
        self.send(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def go_on(self) -> None:
        self.send(signal.SIGCONT)

    def kill(self) -> None:
        """Kill -9, and wait for its end."""
        self._process.kill()
        self._process.wait()

    def wait(self, seconds: float = BOUND) -> int | None:
        """Its exit code; None when it does not end."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> None:
        if self._process.poll() is None:
            self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    @property
    def _output(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        watchdog = threading.Timer(BOUND, self._process.kill)
        watchdog.start()
        try:
            yield
        finally:
            watchdog.cancel()
            watchdog.join()


class Server(Process):
    """`python -m agentlightning_server`, ready when this returns, unless it refused to start."""

    def __init__(self, database: Path, port: int = 0, *arguments: str) -> None:
        self.database = database
        command = [sys.executable, "-m", "agentlightning_server", "--db", str(database), "--port", str(port)]
        super().__init__([*command, "--log-level", "WARNING", *arguments], database.with_name("server.log"))

    @property
    def address(self) -> str:
        assert self.greeting.startswith("Store listening on "), self.said
        return self.greeting.removeprefix("Store listening on ").partition(",")[0]

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts a server on the test's file, or another's; all are gone after the test."""
    with contextlib.ExitStack() as servers:

        def start(*arguments: str, database: Path | None = None, port: int = 0) -> Server:
            server = Server(database or tmp_path / "store.db", port, *arguments)
            servers.callback(server.close)
            return server

        yield start


@pytest.fixture
def run_script(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts a Python script with arguments; all are gone after the test."""
    with contextlib.ExitStack() as processes:

        def start(script: str, *arguments: str) -> Process:
            command = [sys.executable, "-c", script, *arguments]
            process = Process(command, tmp_path / "script.log", pass_stdin=True)
            processes.callback(process.close)
            return process

        yield start


@pytest.fixture
def ends() -> Callable[[int], bool]:
    """Whether a process, anybody's child, ends: waited for by the kernel's own word."""

    def wait(pid: int) -> bool:
        try:
            file = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            poll = select.poll()
            poll.register(file, select.POLLIN)
            return bool(poll.poll(BOUND * 1000))
        finally:
            os.close(file)

    return wait
