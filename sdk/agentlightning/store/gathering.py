"""What many callers of one process ask of a store at about the same time, asked in one call, each with its own answer.

The number of calls is what limits a store. Nothing waits for a timer: one call is on its way at a time, and what comes
meanwhile goes together as the next. Lives on the gRPC thread.
"""

import asyncio
import functools
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import grpc
from google.protobuf.message import Message

from agentlightning.errors import StoreError, StoreUnavailableError
from agentlightning.store.connection import CALL_SECONDS, Backoff, answered, connection_to
from agentlightning.store.sending import MAX_BATCH, MAX_BATCH_BYTES, refusal
from agentlightning.v1 import rollout_pb2, span_pb2
from agentlightning.v1 import store_service_pb2 as pb

if TYPE_CHECKING:
    from agentlightning.v1.store_service_pb2_grpc import StoreServiceAsyncStub

_log = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)
R = TypeVar("R")


@dataclass(eq=False, slots=True)
class _Errand(Generic[M, R]):
    """What one caller asks, and what it waits for."""

    messages: Sequence[M]
    results: "asyncio.Future[list[R]]" = field(default_factory=asyncio.Future)


class Gatherer(ABC, Generic[M, R]):
    """Asks one store what many callers want to ask it.

    Who comes alone waits for nobody, and a call that pauses before it is repeated holds up no other.
    """

    def __init__(self, address: str, retry_seconds: float) -> None:
        self._address = address
        self._retry_seconds = retry_seconds
        self._waiting: deque[_Errand[M, R]] = deque()
        self._calls = 0
        self._tasks: set[asyncio.Task[object]] = set()

    async def ask(self, messages: Sequence[M]) -> list[R]:
        """Have one caller's messages sent.

        Returns:
            What became of each, in their order.

        Raises:
            StoreError: The store refused the call, or could not be reached for `retry_seconds`.
        """
        errand: _Errand[M, R] = _Errand(messages)
        self._waiting.append(errand)
        if not self._calls and len(self._waiting) == 1:
            self._call_soon()
        try:
            return await errand.results
        except asyncio.CancelledError:
            if errand.results.done() and not errand.results.cancelled() and errand.results.exception() is None:
                self._unwanted(errand.results.result())
            raise

    @abstractmethod
    async def _call(self, stub: "StoreServiceAsyncStub", messages: Sequence[M], *, is_repeat: bool) -> Sequence[R]:
        """Make one call of them; a repeat may find done what the first call was to do."""

    @abstractmethod
    def _count(self, message: M) -> int:
        """How much of what a call takes at most a message is."""

    def _left(self, errands: Sequence[_Errand[M, R]]) -> Sequence[_Errand[M, R]]:
        """What a call, or a repeat of it, is to ask: what somebody still waits for."""
        return _unanswered(errands)

    def _unwanted(self, results: Sequence[R]) -> None:
        """A caller has gone away before it heard what its messages have done."""

    def _call_soon(self) -> None:
        self._start(self._call_for_waiting())

    def _start(self, coroutine: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(coroutine, name=type(self).__name__)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _call_for_waiting(self) -> None:
        await self._call_for(self._take())

    def _take(self) -> list[_Errand[M, R]]:
        """As many of those that wait as one message takes; the first in any case."""
        self._waiting = deque(_unanswered(self._waiting))
        taken: list[_Errand[M, R]] = []
        count = size = 0
        while self._waiting:
            messages = self._waiting[0].messages
            count += sum(map(self._count, messages))
            size += sum(message.ByteSize() for message in messages)
            if taken and (count > MAX_BATCH or size > MAX_BATCH_BYTES):
                break
            taken.append(self._waiting.popleft())
        return taken

    async def _call_for(self, errands: Sequence[_Errand[M, R]]) -> None:
        try:
            await self._call_or_repeat(errands)
        except Exception as error:
            if len(errands) > 1 and not isinstance(error, StoreUnavailableError):
                # One of them is to blame.
                await asyncio.gather(*(self._call_for([errand]) for errand in errands))
            else:
                for errand in _unanswered(errands):
                    errand.results.set_exception(error)

    async def _call_or_repeat(self, errands: Sequence[_Errand[M, R]]) -> None:
        """Make one call of them, and again while anybody still waits, until it is answered."""
        backoff, is_repeat = Backoff(self._retry_seconds), False
        while errands := self._left(errands):
            messages = [message for errand in errands for message in errand.messages]
            try:
                with self._calling():
                    connection = connection_to(self._address)
                    answer = await self._call(connection.stub, messages, is_repeat=is_repeat)
            except grpc.aio.AioRpcError as error:
                await backoff.pause_or_raise(error, connection.target)
                is_repeat = True
                continue
            answered(connection.target)
            results = iter(answer)
            for errand, own in [(errand, [*islice(results, len(errand.messages))]) for errand in errands]:
                if errand.results.done():
                    self._unwanted(own)
                else:
                    errand.results.set_result(own)
            return

    @contextmanager
    def _calling(self) -> Iterator[None]:
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            if self._waiting and not self._calls:
                self._call_soon()


class ClaimGatherer(Gatherer[pb.DequeueRolloutsRequest, rollout_pb2.Assignment | None]):
    """Claims one rollout of a queue for each worker that wants one, or None where there is none at the moment."""

    async def _call(
        self, stub: "StoreServiceAsyncStub", messages: Sequence[pb.DequeueRolloutsRequest], *, is_repeat: bool
    ) -> Sequence[rollout_pb2.Assignment | None]:
        first, asking = messages[0], list(range(len(messages)))
        claimed: list[rollout_pb2.Assignment | None] = [None] * len(messages)
        while asking:  # where tasks are large, an answer holds but some of them
            request = pb.DequeueRolloutsRequest(
                worker_ids=[messages[index].worker_id for index in asking],
                queue=first.queue,
                request_id=f"{first.request_id}-{len(messages)}-{len(asking)}",  # another call, another id
            )
            answer = await stub.DequeueRollouts(request, timeout=CALL_SECONDS)
            if not answer.assignments:
                break
            for assignment in answer.assignments:  # the answer to a repeat lacks what was lost since the first call
                own = (index for index in asking if messages[index].worker_id == assignment.attempt.worker_id)
                index = next(own, asking[0])
                asking.remove(index)
                claimed[index] = assignment
        return claimed

    def _count(self, message: pb.DequeueRolloutsRequest) -> int:
        return 1

    def _left(
        self, errands: Sequence[_Errand[pb.DequeueRolloutsRequest, rollout_pb2.Assignment | None]]
    ) -> Sequence[_Errand[pb.DequeueRolloutsRequest, rollout_pb2.Assignment | None]]:
        """All of it while anybody waits: the store answers a repeat as it did the first call only if it is the same."""
        return errands if _unanswered(errands) else []

    def _unwanted(self, results: Sequence[rollout_pb2.Assignment | None]) -> None:
        attempts = [assignment.attempt for assignment in results if assignment is not None]
        refs = [pb.AttemptRef(rollout_id=attempt.rollout_id, attempt_id=attempt.attempt_id) for attempt in attempts]
        if refs:
            self._start(self._release(refs))

    async def _release(self, refs: Sequence[pb.AttemptRef]) -> None:
        request = pb.ReleaseAttemptsRequest(attempts=refs)
        try:
            await connection_to(self._address).call("ReleaseAttempts", request, retry_seconds=self._retry_seconds)
        except StoreError as error:  # their leases will run out
            _log.debug("what was claimed for a caller who is gone could not be given back: %s", error)


class SpanGatherer(Gatherer[span_pb2.Span, pb.AddSpansResponse.Result]):
    """Stores spans."""

    async def _call(
        self, stub: "StoreServiceAsyncStub", messages: Sequence[span_pb2.Span], *, is_repeat: bool
    ) -> Sequence[pb.AddSpansResponse.Result]:
        answer = await stub.AddSpans(pb.AddSpansRequest(spans=messages), timeout=CALL_SECONDS)
        if is_repeat:  # then what it calls duplicates are the first call's own
            for result in answer.results:
                result.duplicate = False
        return answer.results

    def _count(self, message: span_pb2.Span) -> int:
        return 1


class CompletionGatherer(Gatherer[pb.CompleteAttemptRequest, pb.CompleteAttemptsResponse.Result]):
    """Completes attempts."""

    async def complete(self, request: pb.CompleteAttemptRequest) -> pb.CompleteAttemptsResponse.Result:
        """Complete one.

        Raises:
            StoreError: It was refused, or the store could not be reached for `retry_seconds`.
        """
        [result] = await self.ask([request])
        if result.error_reason:
            raise refusal(result)
        return result

    async def _call(
        self, stub: "StoreServiceAsyncStub", messages: Sequence[pb.CompleteAttemptRequest], *, is_repeat: bool
    ) -> Sequence[pb.CompleteAttemptsResponse.Result]:
        request = pb.CompleteAttemptsRequest(attempts=messages)
        return (await stub.CompleteAttempts(request, timeout=CALL_SECONDS)).results

    def _count(self, message: pb.CompleteAttemptRequest) -> int:
        return max(1, len(message.spans))


def _unanswered(errands: Iterable[_Errand[M, R]]) -> list[_Errand[M, R]]:
    """Those whose callers still wait."""
    return [errand for errand in errands if not errand.results.done()]


@functools.cache
def claims_of(address: str, retry_seconds: float, queue: str) -> ClaimGatherer:
    """How this process claims what is at hand in a queue, for all who try as long. On the gRPC thread only."""
    return ClaimGatherer(address, retry_seconds)


@functools.cache
def spans_to(address: str, retry_seconds: float) -> SpanGatherer:
    """How this process stores spans, for all who try as long. On the gRPC thread only."""
    return SpanGatherer(address, retry_seconds)


@functools.cache
def completions_to(address: str, retry_seconds: float) -> CompletionGatherer:
    """How this process completes attempts, for all who try as long. On the gRPC thread only."""
    return CompletionGatherer(address, retry_seconds)
