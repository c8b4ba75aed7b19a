"""Workers' streams, opened, granted, drained, half-closed and dropped at random while others meddle with their work.

After each step the machine waits until all that is due has been said, which it must be without another call: that is
half of what is tested. What streams say comes on threads, and so does a watch, which tells when to look again.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from threading import Condition, Thread
from typing import Any

import grpc
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.attempt_pb2 import Attempt, AttemptStatus, Failure, FailureKind
from agentlightning.v1.rollout_pb2 import RetryPolicy, Rollout, RolloutConfig
from google.protobuf.duration_pb2 import Duration
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

BOUND = 5.0
WHOLE_EXAMPLE = 120.0
CONFIGS = [
    RolloutConfig(),
    RolloutConfig(timeout=Duration(seconds=20)),
    RolloutConfig(
        max_attempts=2,
        retry_policies=[RetryPolicy(kind=FailureKind.FAILURE_KIND_AGENT, initial_backoff=Duration(seconds=5))],
    ),
]
AGENT = Failure(kind=FailureKind.FAILURE_KIND_AGENT)
numbers = st.integers(0, 99)
some = st.integers(0, 3)


class HungError(BaseException):
    """What was due has not come. No `Exception`, which would be waited for again and again to make it smaller."""


class Ears:
    """Hears what is said in calls, each on a thread, and tells when something was.

    Attributes:
        news: Nothing is heard while somebody holds it.
        heard: How much was.
    """

    def __init__(self) -> None:
        self.news = Condition()
        self.heard = 0
        self._errors: list[Exception] = []

    def listen(self, call: Any, hear: Callable[[Any], None]) -> Thread:
        """Have each message of a call heard; the thread ends with it."""
        thread = Thread(target=self._listen, args=(call, hear), daemon=True)
        thread.start()
        return thread

    def wait_beyond(self, heard: int, until: float) -> bool:
        """Wait until something more was heard, or a call has ended; false when the time came first."""
        with self.news:
            arrived = self.news.wait_for(lambda: self.heard > heard, until - time.monotonic())
            if self._errors:
                raise self._errors[0]
            return arrived

    def _listen(self, call: Any, hear: Callable[[Any], None]) -> None:
        try:
            for message in call:
                self._note(hear, message)
        except Exception as error:
            if not isinstance(error, grpc.RpcError) or error.code() is not grpc.StatusCode.CANCELLED:
                self._errors.append(error)
        self._note(hear, None)

    def _note(self, hear: Callable[[Any], None], message: Any) -> None:
        with self.news:
            hear(message)
            self.heard += 1
            self.news.notify_all()


class Stream:
    """One worker's stream, and what was said on it.

    Attributes:
        held: The attempts that it is to tell of once they are lost, and was not told that it is done with.
        is_dropped: The worker is gone without a word.
    """

    def __init__(self, stub: Any, worker_id: str, ears: Ears, credits: int, held: Iterable[pb.AttemptRef]) -> None:
        self.worker_id, self.granted = worker_id, credits
        self.held = {ref.attempt_id for ref in held}
        self.assigned: list[Attempt] = []
        self.lost: list[str] = []
        self.is_drained = self.is_half_closed = self.is_dropped = self.has_ended = False
        self._marks = self._marks_heard = 0
        self._words: SimpleQueue[pb.StreamDequeueRequest | None] = SimpleQueue()
        self.say(open=pb.StreamDequeueRequest.Open(worker_id=worker_id, credits=credits, held=held))
        self._call = stub.StreamDequeue(iter(self._words.get, None), timeout=WHOLE_EXAMPLE)
        self.thread = ears.listen(self._call, self._hear)

    def say(self, **message: Any) -> None:
        self._words.put(pb.StreamDequeueRequest(**message))

    def grant(self, count: int) -> None:
        self.granted += 0 if self.is_drained else count
        self.say(add_credits=count)

    def drain(self) -> None:
        """Ask for no more; behind it comes a question whose answer says that nothing more is to come."""
        self.is_drained = True
        self._marks += 1
        self.say(drain=pb.StreamDequeueRequest.Drain())
        self.say(hold=pb.AttemptRef(rollout_id="ro", attempt_id="mark"))

    def half_close(self) -> None:
        self.is_half_closed = True
        self._words.put(None)

    def drop(self) -> None:
        self.is_dropped = True
        self._call.cancel()
        self._words.put(None)

    @property
    def is_open(self) -> bool:
        return not (self.is_half_closed or self.is_dropped)

    @property
    def may_have_more(self) -> bool:
        return self.is_open and not self.is_drained and len(self.assigned) < self.granted

    def due(self, seen: Any) -> Iterator[str]:
        """What is to be said still."""
        if self.is_half_closed and not self.has_ended:
            yield "the end"
        if self._marks_heard < self._marks and self.is_open:
            yield "that no more work comes"
        if self.is_open:
            yield from (f"the loss of {lost}" for lost in self.held - set(self.lost) if not seen.holds(lost))
        if not self.is_dropped:
            yield from (
                f"the work {attempt.attempt_id}" for attempt in self.unheard(seen) if seen.holds(attempt.attempt_id)
            )

    def unheard(self, seen: Any) -> list[Attempt]:
        """The attempts that were made for this stream and did not come on it."""
        heard = {attempt.attempt_id for attempt in self.assigned}
        mine = [attempt for attempt in seen.attempts.values() if attempt.worker_id == self.worker_id]
        return [attempt for attempt in mine if attempt.attempt_id not in heard]

    def _hear(self, message: pb.StreamDequeueResponse | None) -> None:
        if message is None:
            self.has_ended = True
        elif message.HasField("assignment"):
            assert not self._marks_heard
            self.assigned.append(message.assignment.attempt)
            self.held.add(message.assignment.attempt.attempt_id)
        elif message.lost.attempt.attempt_id == "mark":
            self._marks_heard += 1
        elif message.HasField("lost"):
            self.lost.append(message.lost.attempt.attempt_id)


class Workers(RuleBasedStateMachine):
    """Workers with streams, on a server with a fresh file."""

    def __init__(
        self, serve: Callable[..., Any], witness_of: Callable[[Any], Any], copy: Any, counts: Counter[str]
    ) -> None:
        super().__init__()
        self.server = serve(clients=3)
        self.stub = self.server.stubs[0]
        self.witness = witness_of(self.server)
        self.counts = counts
        self.streams: list[Stream] = []
        self.done: set[str] = set()
        """Attempts that their workers completed or released."""
        self.ears, self.copy = Ears(), copy
        self.watch = self.stub.Watch(pb.WatchRequest(), timeout=WHOLE_EXAMPLE)
        self.watching = self.ears.listen(self.watch, lambda message: message and copy.apply(message))

    @property
    def seen(self) -> Any:
        return self.witness.seen

    @property
    def open(self) -> list[Stream]:
        return [stream for stream in self.streams if stream.is_open]

    @invariant()
    def what_is_due_is_said_and_every_promise_is_kept(self) -> None:
        until = time.monotonic() + BOUND
        while True:
            heard, seen = self.ears.heard, self.witness.peek()
            with self.ears.news:
                due = list(self.due(seen))
            if not due:
                break
            if not self.ears.wait_beyond(heard, until):
                raise HungError(f"{', '.join(due)} did not come in {BOUND:g} s")
        self.witness.look()
        for stream in self.streams:
            self.check(stream)
        for rollout_id, count in self.seen.releases.items():
            assert count == sum(map(was_given_back, self.seen.attempts_of(rollout_id)))

    def teardown(self) -> None:
        for stream in self.open:
            stream.drop()
        self.watch.cancel()
        for thread in (self.watching, *(stream.thread for stream in self.streams)):
            thread.join(BOUND)
        self.server.close()
        unheard = [attempt for stream in self.streams for attempt in stream.unheard(self.seen)]
        self.counts.update(
            {
                "examples": 1,
                "streams": len(self.streams),
                "assignments": sum(len(stream.assigned) for stream in self.streams),
                "losses": sum(len(stream.lost) for stream in self.streams),
                "given back unsaid": sum(map(was_given_back, unheard)),
                "said to nobody": sum(not was_given_back(attempt) for attempt in unheard),
            }
        )

    # What workers do

    @initialize(config=st.sampled_from(CONFIGS))
    def begin(self, config: RolloutConfig) -> None:
        self.open_stream(credits=2, goes_on=False)
        self.enqueue(3, config)

    @precondition(lambda self: len(self.open) < 3)
    @rule(credits=some, goes_on=st.booleans())
    def open_stream(self, credits: int, goes_on: bool) -> None:
        before = [stream for stream in self.streams if stream.is_dropped] if goes_on else []
        held = [ref_of(attempt) for stream in before for attempt in stream.assigned if self.is_mine(attempt)]
        stub, worker_id = self.server.stubs[1 + len(self.streams) % 2], f"worker-{len(self.streams)}"
        self.streams.append(Stream(stub, worker_id, self.ears, credits, held))

    @precondition(lambda self: self.open)
    @rule(which=numbers, count=st.integers(1, 3))
    def grant(self, which: int, count: int) -> None:
        self.some_stream(which).grant(count)

    @precondition(lambda self: self.open)
    @rule(
        which=numbers,
        end=st.sampled_from([Stream.drain, Stream.half_close, Stream.drop]),
        count=some,
        grants=st.booleans(),
    )
    def end_amid_work(self, which: int, end: Callable[[Stream], None], count: int, grants: bool) -> None:
        """End a stream while the server may be claiming for it."""
        stream = self.some_stream(which)
        if grants:
            stream.grant(2)
        if count:
            self.enqueue(count, RolloutConfig())
        end(stream)

    @rule(which=numbers, succeeds=st.booleans())
    def complete(self, which: int, succeeds: bool) -> None:
        if attempt := self.some_attempt(which):
            self.give_up(attempt)
            outcome: dict[str, Any] = {"succeeded": {}} if succeeds else {"failure": AGENT}
            self.stub.CompleteAttempt(pb.CompleteAttemptRequest(**ids_of(attempt), **outcome))

    @rule(which=numbers)
    def release(self, which: int) -> None:
        if attempt := self.some_attempt(which):
            self.give_up(attempt)
            self.stub.ReleaseAttempts(pb.ReleaseAttemptsRequest(attempts=[ref_of(attempt)]))

    @rule(which=numbers)
    def heartbeat(self, which: int) -> None:
        if attempt := self.some_attempt(which):
            self.stub.HeartbeatAttempts(pb.HeartbeatAttemptsRequest(attempts=[ref_of(attempt)]))

    # What others do

    @rule(count=st.integers(1, 4), config=st.sampled_from(CONFIGS))
    def enqueue(self, count: int, config: RolloutConfig) -> None:
        rollouts = [Rollout(input_json="1", config=config)] * count
        self.stub.EnqueueRollouts(pb.EnqueueRolloutsRequest(rollouts=rollouts))

    @rule(limit=st.integers(1, 2))
    def dequeue(self, limit: int) -> None:
        self.stub.DequeueRollouts(pb.DequeueRolloutsRequest(max_rollouts=limit, worker_id="another"))

    @rule(which=numbers)
    def cancel(self, which: int) -> None:
        if attempt := self.some_attempt(which):
            self.stub.CancelRollouts(pb.CancelRolloutsRequest(rollout_ids=[attempt.rollout_id]))

    @rule(which=numbers)
    def supersede(self, which: int) -> None:
        if attempt := self.some_attempt(which):
            self.witness.told.rollout(attempt.rollout_id)
            self.stub.StartAttempt(pb.StartAttemptRequest(rollout_id=attempt.rollout_id, worker_id="another"))

    @rule()
    def delete_what_has_ended(self) -> None:
        self.witness.told.deleted |= set(filter(self.seen.is_terminal, self.seen.rollouts))
        self.stub.DeleteRollouts(pb.DeleteRolloutsRequest(ended_for=Duration()))

    @rule(seconds=st.sampled_from([1, 6, 21, 61]))
    def time_passes(self, seconds: int) -> None:
        self.server.clock.advance(seconds)

    # What the rules use

    def some_stream(self, which: int) -> Stream:
        return self.open[which % len(self.open)]

    def some_attempt(self, which: int) -> Attempt | None:
        """One that came on a stream and is its worker's still."""
        mine = [attempt for stream in self.streams for attempt in stream.assigned if self.is_mine(attempt)]
        return mine[which % len(mine)] if mine else None

    def is_mine(self, attempt: Attempt) -> bool:
        return bool(self.seen.holds(attempt.attempt_id))

    def give_up(self, attempt: Attempt) -> None:
        self.done.add(attempt.attempt_id)
        for stream in self.streams:
            stream.held.discard(attempt.attempt_id)

    def due(self, seen: Any) -> Iterator[str]:
        """What is to happen still without anybody asking for it."""
        for stream in self.streams:
            yield from (f"{what} for {stream.worker_id}" for what in stream.due(seen))
        if any(stream.may_have_more for stream in self.open):
            waiting = [rollout for rollout in seen.queued() if not rollout.HasField("available_time")]
            yield from (f"the work {rollout.rollout_id} for anybody" for rollout in waiting)
        if self.copy.revision < seen.revision:
            yield f"revision {seen.revision}"
        elif self.copy.revision == seen.revision:
            self.copy.check(seen)

    def check(self, stream: Stream) -> None:
        assert len(stream.assigned) <= stream.granted
        assert all(attempt.HasField("lease_expire_time") for attempt in stream.assigned)
        assert len(set(stream.lost)) == len(stream.lost)
        assert not self.done & set(stream.lost)
        assert not any(map(self.seen.holds, stream.lost))
        if not stream.is_dropped:
            assert all(map(was_given_back, stream.unheard(self.seen)))


def ids_of(attempt: Attempt) -> dict[str, str]:
    return {"rollout_id": attempt.rollout_id, "attempt_id": attempt.attempt_id}


def ref_of(attempt: Attempt) -> pb.AttemptRef:
    return pb.AttemptRef(**ids_of(attempt))


def was_given_back(attempt: Attempt) -> bool:
    cancelled = attempt.status == AttemptStatus.ATTEMPT_STATUS_CANCELLED
    return cancelled and attempt.failure.message == "released before it began"


def test_whatever_happens_to_streams_they_say_what_is_due_once(
    serve_on_thread: Callable[..., Any],
    witness_of: Callable[[Any], Any],
    new_copy: Callable[[], Any],
    tried: Callable[..., Any],
) -> None:
    counts: Counter[str] = Counter()
    run_state_machine_as_test(
        lambda: Workers(serve_on_thread, witness_of, new_copy(), counts),
        settings=tried(short=(12, 30), long=(1000, 60)),
    )
    print("\n" + ", ".join(f"{count} {what}" for what, count in counts.items()))
