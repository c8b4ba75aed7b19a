"""The process's gRPC: one thread with one event loop, one channel an address, retries, and errors as exceptions.

Clients are addresses: they hold nothing of this, so they work from any loop, any thread or none, and can be pickled.
gRPC itself does not live through a fork. Knows no operation of the store.
"""

import asyncio
import atexit
import contextvars
import logging
import math
import os
import random
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import grpc
from google.rpc import error_details_pb2, status_pb2
from opentelemetry import context as otel_context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY

from agentlightning.address import parse_address
from agentlightning.errors import (
    AttemptLostError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    StoreError,
    StoreUnavailableError,
    UnsupportedError,
)
from agentlightning.store.wording import error_in_parameters
from agentlightning.v1.store_service_pb2_grpc import StoreServiceStub

if TYPE_CHECKING:
    from agentlightning.v1.store_service_pb2_grpc import StoreServiceAsyncStub

T = TypeVar("T")

MAX_MESSAGE_BYTES = 16 << 20
CALL_SECONDS = 30.0

_log = logging.getLogger(__name__)
_FIRST_PAUSE, _LAST_PAUSE, _PAUSE_GROWTH = 0.1, 2.0, 1.6
_LONGEST_CONNECT = 5.0
"""Seconds in which an attempt to connect has failed if it fails: a call that breaks later had a connection."""
_DETAILS_KEY = "grpc-status-details-bin"
_ERRORS: dict[grpc.StatusCode, type[StoreError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: InvalidRequestError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequestError,
    grpc.StatusCode.FAILED_PRECONDITION: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ABORTED: ConflictError,
    grpc.StatusCode.UNAVAILABLE: StoreUnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: StoreUnavailableError,
    grpc.StatusCode.CANCELLED: StoreUnavailableError,
    grpc.StatusCode.UNIMPLEMENTED: UnsupportedError,
}
_RETRIED = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,  # by a server that stops just now; what we cancel ourselves raises another error
)
_UNEXPLAINED = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
"""What gRPC says for itself of a call that broke off, or cannot be made at all; the store would give its reason."""
_UNEXPLAINED_TRIES = 5
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),  # an answer holds what was asked and a little more
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


class _GrpcThread:
    """A thread with an event loop, started when it is first needed.

    Waking a thread is dear: what is handed over at about the same time, either way, shares one waking.
    """

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.connections: dict[str, Connection] = {}
        self.silent_since: dict[str, float] = {}
        self._starting = threading.Lock()
        # Of its own: our traffic carries no rollout's identity, and is not traced by instrumentors of gRPC.
        self._context = contextvars.Context()
        self._context.run(otel_context.attach, otel_context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        self._jobs: deque[Callable[[], None]] = deque()
        self._is_woken = False
        self._ended: dict[asyncio.AbstractEventLoop, list[_Call[Any]]] = {}

    def do(self, job: Callable[[], None]) -> None:
        """Do something on the thread. From any thread; in the order of asking."""
        if self.loop is None:
            self._start()
        assert self.loop is not None
        self._jobs.append(job)
        if not self._is_woken:
            try:
                self._is_woken = True
                self.loop.call_soon_threadsafe(self._do_all, context=self._context)
            except BaseException:  # interrupted from the keyboard, for one: the next job wakes the thread
                self._is_woken = False
                raise

    def tell(self, call: "_Call[Any]") -> None:
        """Tell the loop that a call came from that it has ended. On the thread."""
        if not self._ended:
            asyncio.get_running_loop().call_soon(self._tell_all)
        self._ended.setdefault(call.answer.get_loop(), []).append(call)

    async def close(self) -> None:
        for connection in self.connections.values():
            await connection.channel.close(grace=0)
        self.connections.clear()

    def _start(self) -> None:
        with self._starting:
            if self.loop is None:
                loop = asyncio.new_event_loop()
                threading.Thread(target=loop.run_forever, name="agentlightning-grpc", daemon=True).start()
                self.loop = loop

    def _do_all(self) -> None:
        self._is_woken = False  # before looking: who asks from now on wakes the thread again
        for _ in range(len(self._jobs)):
            self._jobs.popleft()()

    def _tell_all(self) -> None:
        ended, self._ended = self._ended, {}
        for loop, calls in ended.items():
            try:
                loop.call_soon_threadsafe(_settle, calls)
            except RuntimeError:  # it is closed, and who was in it gone
                for call in calls:
                    call.abandon()


class _Call(Generic[T]):
    """A coroutine on the gRPC thread, and a future in the loop that asked for it.

    Attributes:
        answer: What the coroutine returned or raised.
    """

    def __init__(
        self, coroutine: Coroutine[Any, Any, T], undo: Callable[[T], Coroutine[Any, Any, None]] | None = None
    ) -> None:
        if any(thread.loop is not None for thread in _inherited):
            coroutine.close()
            raise StoreError(
                "this process was forked from one that had talked to a store, and gRPC does not live through that: "
                "start it by spawning, or fork before the first call"
            )
        self.answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._undo = undo
        self._thread = _thread
        self._thread.do(partial(self._start, coroutine))

    def give_up(self) -> None:
        """Nobody waits for the answer any more."""
        self.answer.cancel()
        self._thread.do(self.abandon)

    def abandon(self) -> None:
        """Cancel the coroutine, or undo what it has done. On the gRPC thread."""
        self._task.cancel()
        undo, self._undo = self._undo, None
        if undo is not None:
            self._task.add_done_callback(partial(self._undo_result, undo))

    def settle(self) -> None:
        """Set the answer, if somebody still waits for it."""
        if self._task.cancelled():
            self.answer.cancel()
        elif (error := self._task.exception()) is not None:
            if not self.answer.done():
                self.answer.set_exception(error)
        elif not self.answer.done():
            self.answer.set_result(self._task.result())

    def _start(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._task = asyncio.create_task(coroutine)
        self._task.add_done_callback(lambda _: self._thread.tell(self))

    def _undo_result(self, undo: Callable[[T], Coroutine[Any, Any, None]], task: "asyncio.Task[T]") -> None:
        if not task.cancelled() and task.exception() is None:
            self._undoing = asyncio.create_task(undo(task.result()))
            self._undoing.add_done_callback(_log_failure)


def _settle(calls: "Iterable[_Call[Any]]") -> None:
    for call in calls:
        call.settle()


def _log_failure(undoing: "asyncio.Task[None]") -> None:
    if not undoing.cancelled() and (error := undoing.exception()):
        _log.debug("what was done for a caller who is gone could not be undone: %s", error)


_thread = _GrpcThread()
_inherited: list[_GrpcThread] = []


def _forget() -> None:
    """In a forked child: the thread did not come along, and its channels must not even be destroyed here."""
    global _thread
    _inherited.append(_thread)
    _thread = _GrpcThread()


def _close_at_exit() -> None:
    if _thread.loop is not None:
        try:
            asyncio.run_coroutine_threadsafe(_thread.close(), _thread.loop).result(timeout=2)
        except TimeoutError:
            _log.debug("gRPC did not close in time")


os.register_at_fork(after_in_child=_forget)
atexit.register(_close_at_exit)


def is_in_use() -> bool:
    """Whether this process has touched gRPC, after which it should not be forked."""
    return _thread.loop is not None


async def run(coroutine: Coroutine[Any, Any, T], *, undo: Callable[[T], Coroutine[Any, Any, None]] | None = None) -> T:
    """Run a coroutine on the gRPC thread; cancelling the caller cancels it, or undoes it when it was just done."""
    call = _Call(coroutine, undo)
    try:
        return await call.answer
    except asyncio.CancelledError:
        call.give_up()  # even if it has ended: its answer may be on the way, or here and not taken
        raise


async def stream(produce: Callable[[Callable[[T], None]], Coroutine[Any, Any, None]]) -> AsyncIterator[T]:
    """What a coroutine on the gRPC thread emits, item by item, in the caller's loop."""
    loop, items = asyncio.get_running_loop(), asyncio.Queue[tuple[T] | None]()

    def emit(item: T) -> None:
        loop.call_soon_threadsafe(items.put_nowait, (item,))

    producer = _Call(produce(emit))
    producer.answer.add_done_callback(lambda _: items.put_nowait(None))
    try:
        while (item := await items.get()) is not None:
            yield item[0]
        producer.answer.result()
    finally:
        producer.give_up()


class Connection:
    """A channel to one store. Lives on the gRPC thread only.

    Attributes:
        target: The address, without a scheme.
        stub: The store's calls.
    """

    def __init__(self, address: str) -> None:
        self.target, secure = parse_address(address)
        self.channel = (
            grpc.aio.secure_channel(self.target, grpc.ssl_channel_credentials(), options=_OPTIONS)
            if secure
            else grpc.aio.insecure_channel(self.target, options=_OPTIONS)
        )
        self.stub = cast("StoreServiceAsyncStub", StoreServiceStub(self.channel))

    async def call(self, method: str, request: Any, *, retry_seconds: float, timeout: float = CALL_SECONDS) -> Any:
        """Make a unary call, again and again while the store cannot be reached: every call is safe to repeat.

        Raises:
            StoreError: The store refused, or could not be reached for `retry_seconds`.
        """
        backoff = Backoff(retry_seconds)
        while True:
            try:
                answer = await getattr(self.stub, method)(request, timeout=timeout)
            except grpc.aio.AioRpcError as error:
                await backoff.pause_or_raise(error, self.target)
            else:
                answered(self.target)
                return answer


class Backoff:
    """How long to try again: pauses that grow, until the store has been out of reach for so many seconds."""

    def __init__(self, retry_seconds: float) -> None:
        self._retry_seconds = retry_seconds
        self.reset()

    def reset(self) -> None:
        """The store has answered."""
        self._pause = _FIRST_PAUSE
        self._unexplained = 0
        self._begun = self._tried = asyncio.get_running_loop().time()

    async def pause_or_raise(self, error: grpc.aio.AioRpcError, target: str) -> None:
        """Pause after a failed call if it is worth another try.

        Raises:
            StoreError: It is not.
        """
        now = asyncio.get_running_loop().time()
        if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED and now - self._tried > _LONGEST_CONNECT:
            self.reset()  # a stream on which nothing happened for long, or a long poll: it was in reach until now
        elapsed = now - self._begun
        if not self._is_worth_another(error) or elapsed + self._pause > self._retry_seconds:
            raise as_exception(error, target) from None
        _unanswered(target, error, self._retry_seconds)
        await asyncio.sleep(self._pause * random.uniform(0.8, 1.2))
        self._pause = min(self._pause * _PAUSE_GROWTH, _LAST_PAUSE)
        self._tried = asyncio.get_running_loop().time()

    def _is_worth_another(self, error: grpc.aio.AioRpcError) -> bool:
        if error.code() not in _UNEXPLAINED or _error_info(error)[0]:
            return error.code() in _RETRIED
        self._unexplained += 1
        return self._unexplained < _UNEXPLAINED_TRIES


def _unanswered(target: str, error: grpc.aio.AioRpcError, retry_seconds: float) -> None:
    """Say that a store does not answer: once, however many calls wait for it."""
    if target not in _thread.silent_since:
        _thread.silent_since[target] = asyncio.get_running_loop().time()
        limit = "until it does" if math.isinf(retry_seconds) else f"for {retry_seconds:g} s"
        _log.warning("the store at %s does not answer, trying %s (%s)", target, limit, error.details())


def answered(target: str) -> None:
    """Say that a store answers again, if it did not. On the gRPC thread only."""
    if (since := _thread.silent_since.pop(target, None)) is not None:
        seconds = asyncio.get_running_loop().time() - since
        _log.warning("the store at %s answers again, after %.1f s", target, seconds)


def connection_to(address: str) -> Connection:
    """The process's connection to a store. On the gRPC thread only."""
    if address not in _thread.connections:
        _thread.connections[address] = Connection(address)
    return _thread.connections[address]


def as_exception(error: grpc.aio.AioRpcError, target: str) -> StoreError:
    """What a failed call says, as one of our exceptions."""
    code, message = error.code(), error.details() or ""
    reason, metadata = _error_info(error)
    kind = _ERRORS.get(code, StoreError)
    if reason.startswith("ATTEMPT_") and code is grpc.StatusCode.FAILED_PRECONDITION:
        kind = AttemptLostError
    if kind is StoreUnavailableError and not reason:
        message = f"no store answers at {target} ({message}): is `agl store` running there?"
    message, metadata = error_in_parameters(message, metadata)
    return kind(message, code=code.name, reason=reason, metadata=metadata)


def _error_info(error: grpc.aio.AioRpcError) -> tuple[str, dict[str, str]]:
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY:
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return info.reason, dict(info.metadata)
    return "", {}
