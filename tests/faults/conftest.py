"""Servers and other processes of the tests' own, and how far tests go: `make faults` sets AGL_TEST_LENGTH=long."""

import contextlib
import os
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import pytest

BOUND = 10.0
"""Seconds after which a process that does not do what is waited for is taken as hanging, and killed."""
IS_LONG = os.environ.get("AGL_TEST_LENGTH") == "long"
MIB = 1 << 20
TOLD = pytest.StashKey[list[str]]()
UNSOUND = {
    "live attempts of one rollout": """
        SELECT rollout_id, count(*) FROM attempts WHERE status IN ('preparing', 'running')
        GROUP BY rollout_id HAVING count(*) > 1""",
    "rollouts that are neither queued nor leased nor terminal, or two of these": """
        SELECT r.rollout_id, r.status, a.status FROM rollouts AS r
        LEFT JOIN attempts AS a ON a.rollout_id = r.rollout_id AND a.status IN ('preparing', 'running')
        WHERE CASE WHEN r.status IN ('queuing', 'requeuing') THEN a.attempt_id IS NOT NULL
          WHEN r.status IN ('preparing', 'running') THEN a.attempt_id IS NOT r.latest_attempt_id
          ELSE a.attempt_id IS NOT NULL AND r.status <> 'failed' END""",
    "attempts that ended before they began": "SELECT attempt_id FROM attempts WHERE end_time < start_time",
    "rollouts that ended before they were there": "SELECT rollout_id FROM rollouts WHERE end_time < create_time",
    "changes after the store's revision": """
        SELECT rollout_id, revision FROM rollouts WHERE revision > (SELECT revision FROM store)
        UNION ALL SELECT attempt_id, revision FROM attempts WHERE revision > (SELECT revision FROM store)""",
    "foreign keys": "PRAGMA foreign_key_check",
}
"""What is wrong with a database, each with a query for it. A late span may revive an attempt of a failed rollout."""


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
    def memory(self) -> float:
        """MiB that it has in memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / MIB

    @property
    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    @property
    def cpu_seconds(self) -> float:
        """Seconds of a core that it has used."""
        user, system = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    @property
    def said(self) -> str:
        """What it and its predecessors wrote to stderr."""
        return self._log.read_text(errors="replace")

    def read_line(self, seconds: float = BOUND) -> str:
        """Its next line; the process is killed if it says none."""
        with self._watched(seconds):
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
    def _watched(self, seconds: float) -> Iterator[None]:
        watchdog = threading.Timer(seconds, self._process.kill)
        watchdog.start()
        try:
            yield
        finally:
            watchdog.cancel()
            watchdog.join()


class Server(Process):
    """`python -m agentlightning_server`, ready when this returns, unless it refused to start."""

    def __init__(self, database: Path, log: Path, port: int = 0, *arguments: str) -> None:
        self.database = database
        command = [sys.executable, "-m", "agentlightning_server", "--db", str(database), "--port", str(port)]
        super().__init__([*command, "--log-level", "WARNING", *arguments], log)

    @property
    def address(self) -> str:
        assert self.greeting.startswith("Store listening on "), self.said
        return self.greeting.removeprefix("Store listening on ").partition(",")[0]

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])


@pytest.fixture(scope="session")
def times() -> Callable[[int, int], int]:
    """How often, or how many: the first number where the tests run shortened, the second where they run at length."""
    return lambda short, long: long if IS_LONG else short


@pytest.fixture(scope="session")
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Has a test's counts printed at the end of the session."""
    return request.config.stash.setdefault(TOLD, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if told := config.stash.get(TOLD, []):
        terminalreporter.section("faults survived, at length" if IS_LONG else "faults survived, shortened")
        terminalreporter.write_line("\n".join(told))


@pytest.fixture
def faults_in(tmp_path: Path) -> Callable[[Path], list[str]]:
    """What is wrong with a database: read from a copy, so that a server finds the file as the one before left it."""

    def audit(database: Path) -> list[str]:
        copy = tmp_path / "audited" / database.name
        shutil.rmtree(copy.parent, ignore_errors=True)
        copy.parent.mkdir()
        for file in (database, database.with_name(database.name + "-wal")):
            if file.exists():
                shutil.copy(file, copy.parent)
        with contextlib.closing(sqlite3.connect(copy)) as connection:
            found = [f"integrity: {row[0]}" for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
            for what, query in UNSOUND.items():
                found += [f"{what}: {row}" for row in connection.execute(query)]
        return found

    return audit


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts a server on the test's file, or another's; all are gone after the test."""
    with contextlib.ExitStack() as servers:

        def start(*arguments: str, database: Path | None = None, port: int = 0) -> Server:
            server = Server(database or tmp_path / "store.db", tmp_path / "server.log", port, *arguments)
            servers.callback(server.close)
            return server

        yield start


@pytest.fixture
def run_script(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts a Python script with arguments, below another command if one is given; all are gone after the test."""
    with contextlib.ExitStack() as processes:

        def start(script: str, *arguments: str, below: Sequence[str] = ()) -> Process:
            command = [*below, sys.executable, "-c", script, *arguments]
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
