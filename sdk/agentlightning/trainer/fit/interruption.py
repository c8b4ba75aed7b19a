"""Ctrl-C and SIGTERM while `fit` is at work: they end what runs, and never disturb the ending. Knows no trainer."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any, Final, Self, TypeVar

T = TypeVar("T")

_PATIENCE: Final = 1.0
"""Seconds that cancelled work has to end before it is interrupted, and again before the next step of its ending is."""


class Interruption:
    """Takes SIGINT and SIGTERM while the block runs, and raises what they mean when it is over.

    A signal ends what is run by `run` or inside `raising`; otherwise it is only noted, so that what is started is known
    and what is stopped is stopped. Further signals change nothing: the ending takes a few seconds at most.

    Signals are the main thread's, and whoever has handlers of his own keeps them: elsewhere this does nothing.

    Raises:
        KeyboardInterrupt: At the end of the block, when SIGINT came.
        SystemExit: Likewise with code 143, when SIGTERM came.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._end: Callable[[], None] | None = None
        self._is_overdue = False
        self._is_over = threading.Event()
        self._replaced: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if _is_free(number):
                    self._replaced[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._replaced.items():
            signal.signal(number, handler)
        if self._number == signal.SIGINT:
            raise KeyboardInterrupt from None
        if self._number == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM) from None

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """While the block runs, a signal interrupts it as Ctrl-C usually does."""
        with self._ended_by(_interrupt):
            yield

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine to its end, also from within a running event loop, as in a notebook.

        A signal cancels it. If it does not end then, because it blocks the loop or waits for a thread, it is
        interrupted where it is.
        """
        running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

        def cancel() -> None:
            for loop, task in running:
                with contextlib.suppress(RuntimeError):  # it is closed
                    loop.call_soon_threadsafe(task.cancel)

        async def main() -> T:
            task = asyncio.current_task()
            assert task is not None
            running.append((asyncio.get_running_loop(), task))
            if self._number is not None:
                task.cancel()
            return await work()

        with self._ended_by(cancel):
            return run_anywhere(main)

    @contextlib.contextmanager
    def _ended_by(self, end: Callable[[], None]) -> Iterator[None]:
        self._is_over.clear()
        self._end = end
        try:
            if self._number is not None:
                self._begin_to_end()
            yield
        finally:
            self._end = None
            self._is_over.set()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._number is None:
            self._number = number
            self._begin_to_end()
        elif self._is_overdue and self._end is not None:
            self._is_overdue = False
            _interrupt()

    def _begin_to_end(self) -> None:
        if self._end is not None:
            threading.Thread(target=self._insist, name="interruption", daemon=True).start()
            self._end()

    def _insist(self) -> None:
        """Interrupt the main thread until it has left what it was told to end."""
        assert self._number is not None
        while not self._is_over.wait(_PATIENCE):
            self._is_overdue = True
            signal.pthread_kill(threading.main_thread().ident or 0, self._number)


def run_anywhere(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end, in another thread if a loop is running in this one."""
    return asyncio.run(work()) if asyncio._get_running_loop() is None else _in_other_thread(work)


def _is_free(number: signal.Signals) -> bool:
    """Whether nobody but Python or asyncio handles a signal."""
    handler = signal.getsignal(number)
    of_asyncio = getattr(getattr(handler, "func", None), "__self__", None)
    return handler is _DEFAULT[number] or isinstance(of_asyncio, asyncio.Runner)


_DEFAULT: Final = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


def _interrupt() -> None:
    raise KeyboardInterrupt


def _in_other_thread(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(work()))
        except BaseException as error:
            failure.append(error)

    # A daemon: what blocks its loop for ever is left behind.
    thread = threading.Thread(target=run, name="trainer", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
