"""A real store for a test: a server of its own on a socket and a file, and nothing left of it afterwards.

Knows no test framework, and the server only by its command line.
"""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Self

from agentlightning.errors import StoreUnavailableError
from agentlightning.testing.clock import FakeClock

_DATABASE_NAME = "store.db"


class TemporaryStore:
    """A store that lives while the block runs, in a folder that goes with it.

    It is a process of its own, as the one that `Trainer` starts: whoever uses it may fork, and it outlives nobody.

    Args:
        clock: What it goes by. None: real time.

    Attributes:
        address: Where it answers: what `LightningStoreClient` and `Trainer(store=...)` take.
        folder: Where its file is.

    Raises:
        StoreUnavailableError: On entering, when the server does not start; the message holds what it said.

    Example:
        >>> import asyncio
        >>> import agentlightning as agl
        >>> with TemporaryStore(clock=FakeClock()) as store:
        ...     client = agl.LightningStoreClient(store.address)
        ...     rollout = asyncio.run(client.enqueue_rollout({"question": "6 x 7"}))
        >>> rollout.status
        'queuing'
    """

    address: str
    folder: Path

    def __init__(self, clock: FakeClock | None = None) -> None:
        self._clock = clock
        self._held = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as held:
            self.folder = Path(held.enter_context(TemporaryDirectory(prefix="agentlightning-")))
            if self._clock is None:
                # Not above: the clocked server imports this package, and would start in twice the time.
                from agentlightning.store.embedded import EmbeddedStore

                self.address = held.enter_context(EmbeddedStore(self.folder)).address
            else:
                server = held.enter_context(_ClockedServer(self.folder))
                held.enter_context(self._clock.followed_by(server.tell))
                self.address = server.address
            self._held = held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()


class _ClockedServer:
    """A server that is told the time.

    Attributes:
        address: Where it answers, once it has been told the time.
    """

    def __init__(self, folder: Path) -> None:
        self.address = ""
        self._database = folder / _DATABASE_NAME
        self._log = folder / "store.log"

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "agentlightning.testing.clocked_server", str(self._database)]
        with self._log.open("ab") as log:
            # A session of its own: Ctrl-C is for the test.
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True, text=True
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # its file goes, too
        self._process.communicate()

    def tell(self, now: int) -> None:
        """Tell it the time, and wait until it has done what is due."""
        try:
            print(now, file=self._pipe(self._process.stdin), flush=True)
        except BrokenPipeError:
            answer = ""
        else:
            answer = self._pipe(self._process.stdout).readline()
        if not answer:
            raise StoreUnavailableError(f"the store of the test is gone: {self._last_words()}")
        self.address = self.address or answer.strip()

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        return lines[-1] if lines else f"it ended with code {self._process.wait()}"

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe
