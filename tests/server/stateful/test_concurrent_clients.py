"""Clients at once: what each was answered, put together afterwards, is what one careful clerk could have answered."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

import grpc
import pytest
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.attempt_pb2 import AttemptStatus, Failure, FailureKind
from agentlightning.v1.rollout_pb2 import Assignment, Rollout, RolloutConfig, RolloutStatus
from agentlightning.v1.span_pb2 import Span
from google.protobuf.duration_pb2 import Duration

SEEDS = range(200 if os.environ.get("AGL_TEST_LENGTH") == "long" else 3)
WORKERS, STEPS, WATCHED = 5, 60, 30
CONFIGS = [
    RolloutConfig(),
    RolloutConfig(unresponsive_timeout=Duration(seconds=30)),
    RolloutConfig(
        max_attempts=3,
        retry_condition=[AttemptStatus.ATTEMPT_STATUS_FAILED, AttemptStatus.ATTEMPT_STATUS_UNRESPONSIVE],
        unresponsive_timeout=Duration(seconds=30),
    ),
]
OUTCOMES: list[dict[str, Any]] = [
    {"succeeded": {}},
    {"succeeded": {}},
    {"failure": Failure(kind=FailureKind.FAILURE_KIND_AGENT, message="wrong")},
    {"failure": Failure(kind=FailureKind.FAILURE_KIND_INFRASTRUCTURE, message="gone")},
]
LINE = "line"
"""A queue with one worker, who takes one rollout at a time."""
FLEETING = "fleeting"
"""A queue whose rollouts are cancelled and deleted at once."""
END = '"the end"'
"""The task that comes last."""
BOUND = 30.0


@dataclass(frozen=True)
class Answer:
    """A call that was answered, between two ticks of one clock for all clients."""

    client: int
    begun: int
    ended: int
    request: Any
    answer: Any
    """None when it was refused."""


@dataclass
class History:
    """What all clients were answered."""

    answers: list[Answer] = field(default_factory=list)
    refs: list[dict[str, str]] = field(default_factory=list)
    """Every attempt that somebody was given."""
    ticks: Iterator[int] = field(default_factory=count)

    def of(self, kind: type[Any]) -> list[Answer]:
        """The calls of one kind that were not refused."""
        return [known for known in self.answers if isinstance(known.request, kind) and known.answer is not None]


class Client:
    """One of many, with a connection of its own."""

    def __init__(self, server: Any, number: int, history: History, seed: int) -> None:
        self.server, self.number, self.history = server, number, history
        self.stub = server.stubs[number]
        self.chance = Random(f"{seed} {number}")
        self.mine: list[dict[str, str]] = []

    def ask(self, name: str, request: Any) -> Any:
        begun = next(self.history.ticks)
        try:
            answer = getattr(self.stub, name)(request)
        except grpc.RpcError as refusal:
            assert refusal.code() is grpc.StatusCode.FAILED_PRECONDITION
            answer = None
        self.history.answers.append(Answer(self.number, begun, next(self.history.ticks), request, answer))
        return answer

    def work(self) -> None:
        """Do this and that."""
        actions = [self.enqueue, self.claim, self.claim, self.complete, self.complete, self.complete]
        actions += [self.heartbeat, self.release, self.add_spans, self.cancel, self.come_and_go, self.let_time_pass]
        for _ in range(STEPS):
            self.chance.choice(actions)()

    def enqueue(self, *queues: str) -> pb.EnqueueRolloutsResponse:
        chosen = queues or (self.chance.choice(["default", LINE]),)
        new = [
            Rollout(input_json="1", queue=queue, priority=self.chance.randrange(2), config=self.chance.choice(CONFIGS))
            for queue in chosen
        ]
        return self.ask("EnqueueRollouts", pb.EnqueueRolloutsRequest(rollouts=new, request_id=self.request_id()))

    def claim(self) -> None:
        request = pb.DequeueRolloutsRequest(
            max_rollouts=self.chance.randint(1, 3), worker_id=f"worker-{self.number}", request_id=self.request_id()
        )
        claimed = self.ask("DequeueRollouts", request).assignments
        if claimed and self.chance.random() < 0.3:
            self.ask("DequeueRollouts", request)
        for assignment in claimed:
            self.mine.append(ref_of(assignment))
            self.history.refs.append(ref_of(assignment))

    def complete(self) -> None:
        if ref := self.some_attempt():
            spans = [span_of(ref, number) for number in range(self.chance.randrange(3))]
            self.ask("CompleteAttempt", pb.CompleteAttemptRequest(**ref, **self.chance.choice(OUTCOMES), spans=spans))

    def heartbeat(self) -> None:
        if ref := self.some_attempt():
            self.ask("HeartbeatAttempts", pb.HeartbeatAttemptsRequest(attempts=[pb.AttemptRef(**ref)]))

    def release(self) -> None:
        if ref := self.some_attempt():
            self.ask("ReleaseAttempts", pb.ReleaseAttemptsRequest(attempts=[pb.AttemptRef(**ref)]))

    def add_spans(self) -> None:
        if ref := self.some_attempt():
            self.ask("AddSpans", pb.AddSpansRequest(spans=[span_of(ref, self.chance.randrange(5))]))

    def cancel(self) -> None:
        if (ref := self.some_attempt()) and self.chance.random() < 0.3:
            self.ask("CancelRollouts", pb.CancelRolloutsRequest(rollout_ids=[ref["rollout_id"]]))

    def come_and_go(self) -> None:
        [rollout_id] = [rollout.rollout_id for rollout in self.enqueue(FLEETING).rollouts]
        self.ask("CancelRollouts", pb.CancelRolloutsRequest(rollout_ids=[rollout_id]))
        answer = self.ask("DeleteRollouts", pb.DeleteRolloutsRequest(rollout_ids=[rollout_id]))
        assert answer == pb.DeleteRolloutsResponse(deleted_count=1)

    def let_time_pass(self) -> None:
        self.server.clock.advance(self.chance.choice([1, 5, 31]))

    def some_attempt(self) -> dict[str, str] | None:
        """One that this client was given last, or any."""
        if self.mine and self.chance.random() < 0.7:
            return self.mine[-self.chance.randint(1, min(3, len(self.mine)))]
        return self.chance.choice(self.history.refs) if self.history.refs else None

    def request_id(self) -> str:
        return f"{self.number}-{next(self.history.ticks)}"


def work_off_the_line(client: Client, is_over: Callable[[], bool]) -> None:
    """Take the rollouts of a queue one by one until there is nothing more to come."""
    last_look = False
    while True:
        request = pb.DequeueRolloutsRequest(queue=LINE, lease_duration=Duration(seconds=3600))
        claimed = client.ask("DequeueRollouts", request).assignments
        for assignment in claimed:
            client.ask("CompleteAttempt", pb.CompleteAttemptRequest(**ref_of(assignment), succeeded={}))
        if not claimed and last_look:
            return
        last_look = is_over()


def wait_for(stub: Any, rollout_ids: list[str], *, patient: bool) -> list[Rollout]:
    """What a waiter is told; an impatient one hangs up after each message and resumes."""
    ended: list[Rollout] = []
    revision = 0
    while True:
        stream = stub.WaitRollouts(
            pb.WaitRolloutsRequest(rollout_ids=rollout_ids, after_revision=revision), timeout=BOUND
        )
        for message in stream:
            ended += message.rollouts
            revision = message.revision
            if message.pending_count == 0:
                stream.cancel()
                return ended
            if message.rollouts and not patient:
                stream.cancel()
                break


def watch(stub: Any, copy: Any, *, patient: bool) -> Any:
    """The copy of a watcher that applied all there was up to the end; an impatient one hangs up after each message."""
    while True:
        stream = stub.Watch(pb.WatchRequest(after_revision=copy.revision), timeout=BOUND)
        for message in stream:
            copy.apply(message)
            if any(change.rollout.input_json == END for change in message.changes):
                stream.cancel()
                return copy
            if message.changes and not patient:
                stream.cancel()
                break


def ref_of(assignment: Assignment) -> dict[str, str]:
    return {"rollout_id": assignment.rollout.rollout_id, "attempt_id": assignment.attempt.attempt_id}


def span_of(ref: dict[str, str], number: int) -> Span:
    return Span(**ref, trace_id=f"{number:032x}", span_id=f"{number:016x}")


@dataclass(frozen=True)
class Storm:
    """What came of many clients at once."""

    history: History
    watched: list[str]
    """Rollouts that somebody waited for from the start."""
    waited: list[list[Rollout]]
    """What each who waited was told."""
    copies: list[Any]
    """What each who watched holds."""
    seen: Any

    @property
    def claims(self) -> list[tuple[Answer, Assignment]]:
        answers = self.history.of(pb.DequeueRolloutsRequest)
        return [(answer, assignment) for answer in answers for assignment in answer.answer.assignments]

    @property
    def completions(self) -> list[Answer]:
        return self.history.of(pb.CompleteAttemptRequest)


@pytest.fixture(scope="module", params=SEEDS)
def storm(
    request: Any,
    serve_on_thread: Callable[..., Any],
    witness_of: Callable[[Any], Any],
    new_copy: Callable[[], Any],
) -> Iterator[Storm]:
    """Workers who do this and that, one who works off a line, and some who wait and watch; the rest is cancelled."""
    # The server is closed first, which ends the calls of all threads: when something fails nobody waits for the rest.
    with ThreadPoolExecutor(WORKERS + 5) as threads, closing(serve_on_thread(clients=WORKERS + 5)) as server:
        history = History()
        first, *others = [Client(server, number, history, request.param) for number in range(WORKERS + 1)]
        stubs = iter(server.stubs[WORKERS + 1 :])
        watched = [rollout.rollout_id for rollout in first.enqueue(*["default"] * WATCHED).rollouts]
        waiters = [threads.submit(wait_for, next(stubs), watched, patient=patient) for patient in (True, False)]
        watchers = [threads.submit(watch, next(stubs), new_copy(), patient=patient) for patient in (True, False)]
        workers = [threads.submit(other.work) for other in others]
        work_off_the_line(first, is_over=lambda: all(worker.done() for worker in workers))
        for worker in workers:
            worker.result()
        first.ask("CancelRollouts", pb.CancelRolloutsRequest(rollout_ids=watched))
        waited = [waiter.result() for waiter in waiters]
        first.ask("EnqueueRollouts", pb.EnqueueRolloutsRequest(rollouts=[Rollout(input_json=END)]))
        copies = [watcher.result() for watcher in watchers]
        yield Storm(history, watched, waited, copies, witness_of(server).look())


def test_a_claim_is_handed_out_to_one_client_once(storm: Storm) -> None:
    asked = defaultdict(set)
    for claim, assignment in storm.claims:
        asked[assignment.attempt.attempt_id].add(claim.request.request_id)
    assert all(len(request_ids) == 1 for request_ids in asked.values())
    assert asked.keys() == storm.seen.attempts.keys()


def test_a_rollout_succeeds_by_one_attempt_and_stays_so(storm: Storm) -> None:
    succeeded = [done.request for done in storm.completions if done.request.HasField("succeeded")]
    attempts = {(done.rollout_id, done.attempt_id) for done in succeeded}
    rollouts = [storm.seen.rollouts[rollout_id] for rollout_id, _ in attempts]
    assert max(Counter(rollout_id for rollout_id, _ in attempts).values()) == 1
    assert all(rollout.status == RolloutStatus.ROLLOUT_STATUS_SUCCEEDED for rollout in rollouts)


def test_an_attempt_ends_in_the_one_way_that_was_accepted(storm: Storm) -> None:
    for done in storm.completions:
        attempt = storm.seen.attempts[done.request.attempt_id]
        assert attempt.failure == done.request.failure
        assert done.request.HasField("succeeded") == (attempt.status == AttemptStatus.ATTEMPT_STATUS_SUCCEEDED)


def test_what_was_claimed_again_is_not_completed_by_whoever_had_it_before(storm: Storm) -> None:
    claimed = defaultdict(list)
    for claim, assignment in storm.claims:
        claimed[assignment.rollout.rollout_id].append((claim.ended, assignment.attempt.sequence_id))
    first = {done.request.attempt_id: done for done in reversed(storm.completions)}
    for done in first.values():
        sequence_id = storm.seen.attempts[done.request.attempt_id].sequence_id
        later = [ended for ended, number in claimed[done.request.rollout_id] if number > sequence_id]
        assert all(done.begun < ended for ended in later)


def test_an_accepted_completion_has_all_its_spans(storm: Storm) -> None:
    for done in storm.completions:
        stored = {span.span_id for span in storm.seen.spans.get(done.request.attempt_id, ())}
        assert {span.span_id for span in done.request.spans} <= stored


def test_a_line_is_worked_off_by_priority_and_first_come_first_served(storm: Storm) -> None:
    came = {
        rollout.rollout_id: (answer.ended, -rollout.priority, rollout.revision)
        for answer in storm.history.of(pb.EnqueueRolloutsRequest)
        for rollout in answer.answer.rollouts
        if rollout.queue == LINE
    }
    claims = [(claim.begun, assignment.rollout.rollout_id) for claim, assignment in storm.claims]
    order = [(begun, rollout_id) for begun, rollout_id in claims if rollout_id in came]
    assert sorted(rollout_id for _, rollout_id in order) == sorted(came)
    for place, (begun, rollout_id) in enumerate(order):
        _, *mine = came[rollout_id]
        later = [came[other] for _, other in order[place + 1 :]]
        assert all(mine < place_in_line for ended, *place_in_line in later if ended < begun)


def test_who_waits_is_told_of_each_rollout_once_and_how_it_ended(storm: Storm) -> None:
    for told in storm.waited:
        assert sorted(rollout.rollout_id for rollout in told) == sorted(storm.watched)
        assert all(rollout.status == storm.seen.rollouts[rollout.rollout_id].status for rollout in told)


def test_who_watches_holds_at_the_end_what_the_store_holds(storm: Storm) -> None:
    for copy in storm.copies:
        copy.check(storm.seen)


def test_there_was_something_to_see(storm: Storm) -> None:
    refused = sum(answer.answer is None for answer in storm.history.answers)
    print(
        f"\n{len(storm.history.answers)} calls, {len(storm.claims)} claims, {len(storm.completions)} completions, "
        f"{refused} refused, {len(storm.seen.rollouts)} rollouts, {len(storm.seen.attempts)} attempts"
    )
    assert refused and storm.completions
