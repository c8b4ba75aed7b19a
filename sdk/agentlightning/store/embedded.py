"""A store of one's own: one server process a folder, joined by whoever comes later, gone with its last client.

The only place of the SDK that knows of the server, and that only by its command line.
"""

import contextlib
import fcntl
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from agentlightning.errors import StoreUnavailableError

DEFAULT_FOLDER = Path(".agentlightning")
DATABASE_NAME = "store.db"
_STOP_SECONDS = 3.0

_log = logging.getLogger(__name__)


class EmbeddedStore:
    """The store of a folder: the server that is there, or one that this starts and keeps running.

    The server lives as long as somebody holds the folder's `clients.lock`, a lock that the kernel drops with its
    holder: no client can die without the server noticing, and none can leave it behind.

    Args:
        folder: Where the database is, or is to be.
        name: The name of its file. Those of one folder have a server each.
        host: The address that a server started here listens at.
        port: Where it listens. None: at any free port, or where the last one was killed.
        join: Whether a server that is there is joined. Else that is an error.
        debug: Whether a server started here says all that it does, on standard error. Else warnings go to `store.log`.

    Attributes:
        address: Where the store answers, once started.
    """

    def __init__(
        self,
        folder: Path = DEFAULT_FOLDER,
        *,
        name: str = DATABASE_NAME,
        host: str = "127.0.0.1",
        port: int | None = None,
        join: bool = True,
        debug: bool = False,
    ) -> None:
        self.folder = folder
        self.database = folder / name
        self.host = host
        self.port = port
        self._join = join
        self._debug = debug
        self.address = ""
        self._clients: IO[bytes] | None = None
        self._process: subprocess.Popen[str] | None = None
        self._stopping = threading.Event()

    @property
    def is_ours(self) -> bool:
        """Whether this object started the server, rather than joined it."""
        return self._process is not None

    def start(self) -> str:
        """Join the folder's server or start one, and say where it answers.

        Raises:
            StoreUnavailableError: The server does not start, the message holds what it said, for example who holds the
                port; or it is there already, at another port than the one that was asked for.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with _locked(self._file("start.lock")):
            # Waits for a server that is just going: it holds this lock until its process has ended.
            self._clients = self._file("clients.lock").open("ab")
            fcntl.flock(self._clients, fcntl.LOCK_SH)
            try:
                self.address = self._there() or self._spawn_where_it_was()
            except BaseException:
                self.stop()
                raise
        return self.address

    def keep_running(self) -> None:
        """Start the server again, at the same address, whenever it ends before `stop`; nothing for a joined one."""
        if self.is_ours:
            threading.Thread(target=self._restart_for_ever, name="embedded-store", daemon=True).start()

    def stop(self) -> None:
        """Leave: the server ends if this was its last client."""
        self._stopping.set()
        if self._clients is None:
            return
        with self._clients:
            if self._process is not None and not self._is_used_by_others():
                self._process.terminate()
                try:
                    self._process.wait(_STOP_SECONDS)
                except subprocess.TimeoutExpired:  # what it has acknowledged is on disk
                    self._process.kill()
                    self._process.wait()
            elif self._process is not None:  # it outlives us: somebody has to see it end, if this process does
                threading.Thread(target=self._process.wait, name="embedded-store", daemon=True).start()
        self._clients = None

    def __enter__(self) -> "EmbeddedStore":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _file(self, name: str) -> Path:
        """A file that belongs to the database."""
        return self.folder / (name if self.database.name == DATABASE_NAME else f"{self.database.name}.{name}")

    def _there(self) -> str | None:
        """Where the database is being served by a server that may be joined."""
        address = address_of(self.database) if self._join else None
        if address and self.port not in (None, _port(address)):
            raise StoreUnavailableError(
                f"port is {self.port}, but {self.database} is being served at {address} already: leave port out to "
                "join that server, or end its clients first"
            )
        return address

    def _spawn_where_it_was(self) -> str:
        """Start a server, at the port of one that was killed if there was one: its clients still look for it there."""
        if self.port is not None:
            return self._spawn(self.port)
        if port := _last_port(self.database):
            with contextlib.suppress(StoreUnavailableError):
                return self._spawn(port)
        return self._spawn(port=0)

    def _spawn(self, port: int) -> str:
        command = [sys.executable, "-m", "agentlightning_server", "--db", str(self.database)]
        command += ["--host", self.host, "--port", str(port), "--clients-lock", str(self._file("clients.lock"))]
        command += ["--log-level", "DEBUG" if self._debug else "WARNING"]
        with self._file("store.log").open("ab") as log:
            # A session of its own: Ctrl-C is for the client, which stops the server when it is done with it.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=None if self._debug else log,
                start_new_session=True,
                text=True,
            )
        assert self._process.stdout is not None
        with self._process.stdout as greeting:
            has_started = bool(greeting.readline())
        address = address_of(self.database)
        if address is None or not has_started:
            self._process.wait()
            why = "what it said stands above" if self._debug else _last_line(self._file("store.log"))
            raise StoreUnavailableError(f"the embedded store did not start: {why}")
        return address

    def _restart_for_ever(self) -> None:
        port = _port(self.address)
        while self._process is not None:
            code = self._process.wait()
            if self._stopping.is_set():
                return
            _log.warning("the store ended with code %s and is started again: nothing it acknowledged is lost", code)
            try:
                with _locked(self._file("start.lock")):
                    if self._stopping.is_set() or address_of(self.database):
                        return  # somebody else was quicker
                    self._spawn(port)
            except StoreUnavailableError as error:
                _log.error("%s", error)
                return

    def _is_used_by_others(self) -> bool:
        """Whether our share of the clients' lock cannot become the whole."""
        assert self._clients is not None
        try:
            fcntl.flock(self._clients, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def address_of(database: Path) -> str | None:
    """Where a database is being served. None: nowhere."""
    lock = database.with_name(database.name + ".lock")
    try:
        with lock.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                address = json.loads(file.read()).get("address")
                return str(address) if address else None
    except (FileNotFoundError, ValueError):
        pass
    return None


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _last_port(database: Path) -> int:
    """The port of a server that did not live to give its lock back; 0 when there was none."""
    try:
        facts = json.loads(database.with_name(database.name + ".lock").read_text())
        return _port(facts["address"])
    except (OSError, ValueError, KeyError):
        return 0


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1] if lines else f"see {log}"
