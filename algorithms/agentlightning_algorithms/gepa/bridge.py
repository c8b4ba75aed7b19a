"""Runs synchronous code that needs asynchronous work done: it in a thread, the work on the caller's event loop.

Knows nothing of what either is about.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Left(BaseException):
    """Ends the thread: whoever waited for it has left. No `Exception`, as the code in the thread may swallow these."""


class Bridge:
    """One thread and the loop that works for it.

    All work is done by the task that awaits `run`, one piece after the other. So cancelling that task, or a failure of
    the work, ends the work first and then the thread, and nothing goes on behind anybody's back.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._asked: asyncio.Queue[tuple[Callable[[], Awaitable[Any]], Future[Any]] | None] = asyncio.Queue()
        self._ended = asyncio.Event()
        self._left = False

    async def run(self, synchronous: Callable[[], T]) -> T:
        """Run a function in a thread; whatever ends this call has ended the thread.

        Raises:
            Exception: What the function raised, or the work that it asked for.
        """
        outcome: Future[T] = Future()
        thread = threading.Thread(target=self._in_thread, args=(synchronous, outcome), name="bridge", daemon=True)
        thread.start()
        try:
            await self._serve()
        finally:
            self._left = True
            self._refuse_all()
            await self._ended.wait()  # Soon: the thread waits for nothing but answers, and all are refused now.
            thread.join()  # At once: to say that it has ended was the last thing it did.
        return outcome.result()

    def ask(self, work: Callable[[], Awaitable[T]]) -> T:
        """Have work done on the loop and wait for it; called in the thread.

        Raises:
            Left: When nobody waits for the thread any more.
        """
        answer: Future[T] = Future()
        self._loop.call_soon_threadsafe(self._put, (work, answer))
        return answer.result()

    async def _serve(self) -> None:
        while (asked := await self._asked.get()) is not None:
            work, answer = asked
            try:
                answer.set_result(await work())
            except BaseException:
                answer.set_exception(Left())
                raise

    def _put(self, asked: tuple[Callable[[], Awaitable[Any]], Future[Any]] | None) -> None:
        if asked is None:
            self._ended.set()
        self._asked.put_nowait(asked)
        if self._left:
            self._refuse_all()

    def _refuse_all(self) -> None:
        while not self._asked.empty():
            if (asked := self._asked.get_nowait()) is not None:
                asked[1].set_exception(Left())

    def _in_thread(self, synchronous: Callable[[], T], outcome: Future[T]) -> None:
        try:
            outcome.set_result(synchronous())
        except BaseException as error:
            outcome.set_exception(error)
        finally:
            self._loop.call_soon_threadsafe(self._put, None)
