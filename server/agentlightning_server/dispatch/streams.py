"""Workers' streams: work as far as their credits go, and word of each attempt that is lost. Knows no gRPC."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from agentlightning.v1.attempt_pb2 import AttemptStatus
from agentlightning.v1.rollout_pb2 import Assignment
from agentlightning.v1.store_service_pb2 import AttemptRef
from agentlightning.v1.store_service_pb2 import StreamDequeueRequest as Request
from agentlightning.v1.store_service_pb2 import StreamDequeueResponse as Response
from google.protobuf.duration_pb2 import Duration

from agentlightning_server.dispatch.queues import Queues, Waiter
from agentlightning_server.storage import attempts, rollouts
from agentlightning_server.storage.rows import duration, proto_attempt_status
from agentlightning_server.storage.transaction import LostAttempt, Notices, Reading, Transaction

_RECONNECT_AFTER = Duration(seconds=1)


class Streams:
    """The open streams, and which of them are to be told of which attempt.

    Args:
        queues: Where streams with credits wait for work.
        write: Runs an operation that changes the store.
        read: Runs one that looks.
        give_back: Has assignments released that nobody was told of.
    """

    def __init__(
        self,
        queues: Queues,
        write: Callable[[Callable[[Transaction], bool]], Awaitable[bool]],
        read: Callable[[Callable[[Reading], list[LostAttempt]]], Awaitable[list[LostAttempt]]],
        give_back: Callable[[Sequence[Assignment]], None],
    ) -> None:
        self.queues = queues
        self.write = write
        self.read = read
        self.give_back = give_back
        self._open: set[WorkStream] = set()
        self._holders: defaultdict[str, set[WorkStream]] = defaultdict(set)

    @contextmanager
    def stream(self, opening: Request.Open, lease_duration: int) -> "Iterator[WorkStream]":
        """A worker's stream while the block runs."""
        stream = WorkStream(self, opening, lease_duration)
        self._open.add(stream)
        try:
            yield stream
        finally:
            self._open.discard(stream)
            stream.close()

    def hold(self, attempt_id: str, stream: "WorkStream") -> None:
        """Tell the stream when the attempt is lost."""
        self._holders[attempt_id].add(stream)

    def drop(self, attempt_id: str, stream: "WorkStream") -> None:
        """Tell the stream nothing of the attempt."""
        self._holders[attempt_id].discard(stream)
        if not self._holders[attempt_id]:
            del self._holders[attempt_id]

    def tell(self, notices: Notices) -> None:
        """Pass on what was committed; each attempt is over for those who held it, and forgotten."""
        for lost in notices.lost:
            for stream in tuple(self._holders.get(lost.attempt_id, ())):
                stream.lose(lost)
        for attempt_id in notices.given_up:
            for stream in tuple(self._holders.get(attempt_id, ())):
                stream.drop(attempt_id)

    def go_away(self) -> None:
        """Send every worker away: the server is going."""
        for stream in self._open:
            stream.go_away()


class WorkStream:
    """One worker's stream. What `next` has returned counts as said; what it has not is given back at the end.

    Attributes:
        credits: How many more assignments may be sent.
    """

    def __init__(self, streams: Streams, opening: Request.Open, lease_duration: int) -> None:
        self.credits = opening.credits
        self._streams = streams
        self._worker_id = opening.worker_id
        self._queue = opening.queue or rollouts.DEFAULT_QUEUE
        self._lease_duration = lease_duration
        self._held: set[str] = set()
        self._outbox: deque[Response] = deque()
        self._news = asyncio.Event()
        self._all_said = asyncio.Event()
        self._place: Waiter | None = None
        self._drained = self._half_closed = self._closed = False
        self._say(
            opened=Response.Opened(
                lease_duration=duration(lease_duration),
                heartbeat_interval=attempts.interval(lease_duration),
            )
        )

    async def next(self) -> Response | None:
        """What to say next, once there is something; None at the end.

        Raises:
            StoreError: The store cannot look for work now.
        """
        while not self._closed:
            if self._outbox:
                return self._outbox.popleft()
            self._all_said.set()
            if self._may_look():
                await self._look()
            elif self._half_closed:
                break
            else:
                self._news.clear()
                await self._news.wait()
        return None

    def add_credits(self, count: int) -> None:
        """Send so many assignments more, unless there are to be none at all."""
        if not self._drained:
            self.credits += count
            self._news.set()

    async def hold(self, refs: Sequence[AttemptRef]) -> None:
        """Tell also of these attempts, of those that are lost already at once. Waits until all else is said."""
        if not refs:
            return
        await self._all_said.wait()
        # Held before looking, so that what is lost in between is told too.
        for ref in refs:
            self._hold(ref.attempt_id)
        for lost in await self._streams.read(lambda tx: attempts.lost_of(tx, refs)):
            self.lose(lost)

    def lose(self, lost: LostAttempt) -> None:
        """Tell that an attempt is no longer the worker's, once."""
        if lost.attempt_id in self._held:
            self.drop(lost.attempt_id)
            self._say(lost=_lost(lost))

    def drop(self, attempt_id: str) -> None:
        """Say nothing of an attempt: the worker is done with it."""
        self._held.discard(attempt_id)
        self._streams.drop(attempt_id, self)

    def drain(self) -> None:
        """Send no more assignments; those that were not sent yet are given back."""
        self._drained = True
        self.credits = 0
        self._leave()
        unsaid = [message.assignment for message in self._outbox if message.HasField("assignment")]
        self._outbox = deque(message for message in self._outbox if not message.HasField("assignment"))
        if unsaid:
            self._streams.give_back(unsaid)

    def go_away(self) -> None:
        """Ask the worker to half-close: the server is going."""
        self.drain()
        self._say(go_away=Response.GoAway(reconnect_after=_RECONNECT_AFTER))

    def half_close(self) -> None:
        """The worker says nothing more: the stream ends when there is no work at hand for its credits."""
        self._half_closed = True
        self._news.set()

    def close(self) -> None:
        """Say nothing more."""
        self._closed = True
        self.drain()
        for attempt_id in tuple(self._held):
            self.drop(attempt_id)
        self._news.set()

    def _may_look(self) -> bool:
        """Whether there may be work in the queue for the credits that are left."""
        return self.credits > 0 and (self._place is None or self._place.woken)

    async def _look(self) -> None:
        """Claim what the queue has. Whoever was woken takes one: the others in line were woken for one each."""
        woken, self._place = self._place, Waiter(self._news)
        limit = self.credits if woken is None else 1
        # In line before looking, so that what comes in between wakes this stream.
        self._streams.queues.join(self._queue, self._place)

        def claim(tx: Transaction) -> bool:
            claimed = rollouts.claim(tx, self._queue, [self._worker_id], limit, self._lease_duration)
            # Not left to the caller, which may be gone, or too late to hear what befalls them.
            tx.notices.on_disk.append(lambda: self._take(claimed))
            return bool(claimed)

        try:
            found = await self._streams.write(claim)
        except BaseException:
            if woken is not None:
                self._streams.queues.leave(self._queue, woken)  # the wake-up is somebody else's
            raise
        if found:
            self._leave()

    def _take(self, claimed: Sequence[Assignment]) -> None:
        if self._drained:
            self._streams.give_back(claimed)
            return
        self.credits -= len(claimed)
        for assignment in claimed:
            self._hold(assignment.attempt.attempt_id)
            self._say(assignment=assignment)

    def _hold(self, attempt_id: str) -> None:
        self._held.add(attempt_id)
        self._streams.hold(attempt_id, self)

    def _leave(self) -> None:
        if self._place is not None:
            self._streams.queues.leave(self._queue, self._place)
            self._place = None

    def _say(self, **message: Any) -> None:
        self._outbox.append(Response(**message))
        self._all_said.clear()
        self._news.set()


def _lost(lost: LostAttempt) -> Response.Lost:
    if lost.status is None:
        reason = "ATTEMPT_NOT_FOUND"
    else:
        reason = "ATTEMPT_SUPERSEDED" if lost.superseded else "ATTEMPT_ENDED"
    return Response.Lost(
        attempt=AttemptRef(rollout_id=lost.rollout_id, attempt_id=lost.attempt_id),
        reason=reason,
        status=AttemptStatus.ATTEMPT_STATUS_UNSPECIFIED if lost.status is None else proto_attempt_status(lost.status),
    )
