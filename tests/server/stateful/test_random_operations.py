"""Random operations of several clients, one after the other: after each the store keeps every promise of `conftest`.

The model is only what must be predicted: who stands where in line, who holds what, and what was answered before. What
becomes of a rollout is for the table of `lifecycle/` to say.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import cycle
from typing import Any

import grpc
from agentlightning.semconv import PRIMARY_REWARD_VALUE
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.attempt_pb2 import Attempt, AttemptStatus, Failure, FailureKind
from agentlightning.v1.rollout_pb2 import Assignment, RetryPolicy, Rollout, RolloutConfig, RolloutStatus
from agentlightning.v1.span_pb2 import Attribute, AttributeValue, Span
from agentlightning_server.clock import SECOND
from agentlightning_server.storage.rows import micros, timestamp
from google.protobuf.duration_pb2 import Duration
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

TOLD = RolloutStatus.values()[1:]
"""What an administrator may tell a rollout."""
TOLD_BY_HOLDERS = [kind for kind in FailureKind.values() if kind != FailureKind.FAILURE_KIND_UNRESPONSIVE]
RETRYABLE = [
    AttemptStatus.ATTEMPT_STATUS_FAILED,
    AttemptStatus.ATTEMPT_STATUS_TIMEOUT,
    AttemptStatus.ATTEMPT_STATUS_UNRESPONSIVE,
]

POLICIES = [
    RetryPolicy(kind=FailureKind.FAILURE_KIND_AGENT, max_retries=1, initial_backoff=Duration(seconds=10)),
    RetryPolicy(kind=FailureKind.FAILURE_KIND_TIMEOUT),
    RetryPolicy(kind=FailureKind.FAILURE_KIND_UNRESPONSIVE, initial_backoff=Duration(seconds=30)),
    RetryPolicy(kind=FailureKind.FAILURE_KIND_INFRASTRUCTURE, initial_backoff=Duration(seconds=3)),
]


def some_seconds(*numbers: int) -> st.SearchStrategy[Duration]:
    return st.sampled_from([Duration(seconds=number) for number in numbers])


def policies(numbers: set[int]) -> list[RetryPolicy]:
    return [POLICIES[number] for number in sorted(numbers)]


numbers = st.integers(0, 199)
queues = st.sampled_from(["default", "other"])
limits = {
    "timeout": some_seconds(15, 200),
    "unresponsive_timeout": some_seconds(10, 90),
    "max_redeliveries": st.integers(0, 2),
}
retries = st.fixed_dictionaries(
    {"max_attempts": st.integers(0, 3), "retry_condition": st.sets(st.sampled_from(RETRYABLE)).map(sorted)},
    optional=limits,
)
pauses = st.fixed_dictionaries(
    {"max_attempts": st.integers(2, 3), "retry_policies": st.sets(st.sampled_from(range(4))).map(policies)},
    optional=limits,
)
configs = (retries | pauses).map(lambda fields: RolloutConfig(**fields))
run_ids = st.sampled_from(["", "run-1"])
good_rewards = st.sampled_from(
    [
        None,
        AttributeValue(double_value=0.25),
        AttributeValue(double_value=-1.0),
        AttributeValue(int_value=3),
        AttributeValue(string_value="well"),
    ]
)
good_spans = st.tuples(st.integers(1, 8), st.sampled_from([0, 0, 3, 20]), good_rewards)
spans = good_spans | st.just((9, 0, AttributeValue(double_value=math.nan)))

Ref = dict[str, str]
"""The ids of a rollout and of one of its attempts."""


def span_of(ref: Ref, number: int, sequence_id: int, reward: AttributeValue | None) -> Span:
    attributes = [] if reward is None else [Attribute(key=PRIMARY_REWARD_VALUE, value=reward)]
    ids = {"trace_id": f"{number:032x}", "span_id": f"{number:016x}"}
    return Span(**ref, **ids, sequence_id=sequence_id, attributes=attributes)


def is_bad(span: Span) -> bool:
    return any(math.isnan(attribute.value.double_value) for attribute in span.attributes)


class Clients(RuleBasedStateMachine):
    """What clients do to a server with a fresh file."""

    def __init__(
        self, serve: Callable[..., Any], witness_of: Callable[[Any], Any], copy: Any, counts: Counter[str]
    ) -> None:
        super().__init__()
        self.server = serve(clients=3)
        self.connections = cycle(range(3))
        self.witness = witness_of(self.server)
        self.copy = copy
        self.counts = counts
        self.steps = 0
        self.rollout_ids: list[str] = []
        self.deleted: list[str] = []
        self.refs: list[Ref] = []
        self.asked: list[tuple[str, Any, Any]] = []
        """Calls with a request id and their answers."""
        self.place: dict[str, int] = {}
        """The step in which a rollout came, or took a new place in line."""
        self.given_back: set[str] = set()
        self.released: set[str] = set()
        """Rollouts that are to stand where they stood."""
        self.last_sequence_id: Counter[str] = Counter()

    @property
    def seen(self) -> Any:
        return self.witness.seen

    @invariant()
    def every_promise_is_kept(self) -> None:
        self.steps += 1
        before, now = self.seen, self.witness.look()
        assert now.rollouts.keys() == set(self.rollout_ids)
        for rollout_id in now.rollouts.keys() - before.rollouts.keys():
            self.place[rollout_id] = self.steps
        for rollout in now.queued():
            then = before.rollouts.get(rollout.rollout_id, rollout)
            if rollout.status != then.status and rollout.rollout_id not in self.given_back:
                self.place[rollout.rollout_id] = self.steps
        self.given_back.clear()

    def teardown(self) -> None:
        self.server.close()
        self.counts.update(examples=1, steps=self.steps)
        self.counts.update(AttemptStatus.Name(attempt.status)[8:] for attempt in self.seen.attempts.values())

    # Queues

    @initialize(config=configs)
    def begin(self, config: RolloutConfig) -> None:
        self.enqueue("default", 3, 0, "", config)
        self.every_promise_is_kept()
        self.dequeue("default", 2, "worker-0", Duration(seconds=60))

    @rule(queue=queues, count=st.integers(1, 3), priority=st.integers(0, 1), run_id=run_ids, config=configs)
    def enqueue(self, queue: str, count: int, priority: int, run_id: str, config: RolloutConfig) -> None:
        new = Rollout(input_json="1", queue=queue, priority=priority, run_id=run_id, config=config)
        answer = self.ask_once("EnqueueRollouts", pb.EnqueueRolloutsRequest(rollouts=[new] * count))
        self.rollout_ids += [rollout.rollout_id for rollout in answer.rollouts]

    @rule(
        queue=queues,
        limit=st.integers(1, 3),
        worker_id=st.sampled_from(["", "worker-0", "worker-1"]),
        lease=some_seconds(5, 60),
    )
    def dequeue(self, queue: str, limit: int, worker_id: str, lease: Duration) -> None:
        request = pb.DequeueRolloutsRequest(queue=queue, max_rollouts=limit, worker_id=worker_id, lease_duration=lease)
        claimed = self.ask_once("DequeueRollouts", request).assignments
        waiting = [
            rollout
            for rollout in self.seen.queued()
            if rollout.queue == queue and not rollout.HasField("available_time")
        ]
        self.check_order(waiting, [assignment.rollout.rollout_id for assignment in claimed], limit)
        for assignment in claimed:
            self.take(assignment)

    @rule(config=configs, lease=st.none() | some_seconds(30))
    def start_rollout(self, config: RolloutConfig, lease: Duration | None) -> None:
        rollout = Rollout(input_json="1", config=config)
        request = pb.StartRolloutRequest(rollout=rollout, worker_id="worker-2", lease_duration=lease)
        assignment = self.ask_once("StartRollout", request).assignment
        self.rollout_ids.append(assignment.rollout.rollout_id)
        self.take(assignment)

    @rule(which=numbers, lease=st.none() | some_seconds(30))
    def start_attempt(self, which: int, lease: Duration | None) -> None:
        rollout_id = self.some_rollout(which)
        request = pb.StartAttemptRequest(rollout_id=rollout_id, worker_id="worker-2", lease_duration=lease)
        self.witness.told.rollout(rollout_id)
        self.take(self.ask_once("StartAttempt", request).assignment)

    @rule(which=numbers)
    def repeat_a_request(self, which: int) -> None:
        name, request, first = self.asked[which % len(self.asked)]
        again = self.ask(name, request)
        if name == "DequeueRollouts":
            assert ids_of(again.assignments) == [known for known in ids_of(first.assignments) if self.is_alive(known)]
        else:
            assert again == first
        self.check_nothing_changed()

    # Who holds an attempt, and who thinks so

    @rule(which=numbers)
    def heartbeat(self, which: int) -> None:
        ref = self.some_attempt(which)
        held = self.seen.holds(ref["attempt_id"])
        [result] = self.ask("HeartbeatAttempts", pb.HeartbeatAttemptsRequest(attempts=[pb.AttemptRef(**ref)])).results
        assert result.held == held
        if not held:
            self.check_nothing_changed()

    @rule(which=numbers)
    def release(self, which: int) -> None:
        ref = self.some_attempt(which)
        held = self.seen.holds(ref["attempt_id"])
        answer = self.ask("ReleaseAttempts", pb.ReleaseAttemptsRequest(attempts=[pb.AttemptRef(**ref)]))
        assert list(answer.released_attempt_ids) == [ref["attempt_id"]] * (held or ref["attempt_id"] in self.released)
        if held:
            self.released.add(ref["attempt_id"])
            self.given_back.add(ref["rollout_id"])
        else:
            self.check_nothing_changed()

    @rule(which=numbers, kind=st.none() | st.sampled_from(TOLD_BY_HOLDERS), last=st.lists(good_spans, max_size=2))
    def complete(self, which: int, kind: Any, last: list[Any]) -> None:
        ref = self.some_attempt(which)
        outcome: dict[str, Any] = {"succeeded": {}} if kind is None else {"failure": Failure(kind=kind, type="Told")}
        held, repeated = self.seen.holds(ref["attempt_id"]), self.has_ended(ref["attempt_id"], outcome.get("failure"))
        request = pb.CompleteAttemptRequest(**ref, **outcome, spans=[span_of(ref, *fields) for fields in last])
        try:
            self.ask("CompleteAttempt", request)
        except grpc.RpcError as refusal:
            assert refusal.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert not held and not repeated
            self.check_nothing_changed()
            self.counts["completions refused"] += 1
        else:
            assert held or repeated
            self.check_stored(request.spans)
            self.counts["completions repeated" if repeated else "completions accepted"] += 1

    @rule(which=numbers, new=st.lists(spans, min_size=1, max_size=4))
    def add_spans(self, which: int, new: list[Any]) -> None:
        ref = self.some_attempt(which)
        sent = [span_of(ref, *fields) for fields in new]
        known = {span.span_id for span in self.seen.spans.get(ref["attempt_id"], ())}
        results = self.ask("AddSpans", pb.AddSpansRequest(spans=sent)).results
        for span, result in zip(sent, results, strict=True):
            assert result.duplicate == (span.span_id in known)
            assert bool(result.error_reason) == is_bad(span)
            if not is_bad(span) and not result.duplicate:
                known.add(span.span_id)
                self.check_sequence_id(span, result.sequence_id)
        self.check_stored([span for span in sent if not is_bad(span)])
        if not self.may_revive(ref["attempt_id"]):
            assert self.witness.peek().standings() == self.seen.standings()

    @rule(which=numbers)
    def reserve_sequence_id(self, which: int) -> None:
        rollout_id = self.some_rollout(which)
        answer = self.ask("ReserveSequenceIds", pb.ReserveSequenceIdsRequest(rollout_ids=[rollout_id]))
        self.check_sequence_id(Span(rollout_id=rollout_id), *answer.sequence_ids)

    # Algorithms and administrators

    @rule(which=numbers)
    def cancel(self, which: int) -> None:
        rollout_id = self.some_rollout(which)
        [rollout] = self.ask("CancelRollouts", pb.CancelRolloutsRequest(rollout_ids=[rollout_id])).rollouts
        assert self.seen.is_terminal(rollout_id) or rollout.status == RolloutStatus.ROLLOUT_STATUS_CANCELLED

    @rule(which=numbers, status=st.sampled_from(TOLD))
    def set_rollout_status(self, which: int, status: Any) -> None:
        rollout = Rollout(rollout_id=self.some_rollout(which), status=status)
        self.witness.told.rollout(rollout.rollout_id)
        request = pb.UpdateRolloutRequest(rollout=rollout, update_mask={"paths": ["status"]})
        assert self.ask("UpdateRollout", request).rollout.status == status

    @rule(which=numbers, config=configs)
    def set_limits(self, which: int, config: RolloutConfig) -> None:
        rollout = Rollout(rollout_id=self.some_rollout(which), config=config)
        self.witness.told.ever.add(rollout.rollout_id)
        self.ask("UpdateRollout", pb.UpdateRolloutRequest(rollout=rollout, update_mask={"paths": ["config"]}))

    @rule(which=numbers, status=st.sampled_from(AttemptStatus.values()[1:]))
    def set_attempt_status(self, which: int, status: Any) -> None:
        ref = self.some_attempt(which)
        request = pb.UpdateAttemptRequest(attempt=Attempt(**ref, status=status), update_mask={"paths": ["status"]})
        self.witness.told.attempt(**ref)
        try:
            assert self.ask("UpdateAttempt", request).attempt.status == status
            if status != AttemptStatus.ATTEMPT_STATUS_CANCELLED:
                self.released.discard(ref["attempt_id"])
        except grpc.RpcError as refusal:
            assert refusal.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert not self.seen.is_latest(self.seen.attempts[ref["attempt_id"]])
            self.check_nothing_changed()

    @rule(which=numbers, seconds_ago=st.integers(0, 30))
    def set_last_heartbeat(self, which: int, seconds_ago: int) -> None:
        heard = timestamp(self.server.clock() - seconds_ago * SECOND)
        attempt = Attempt(**self.some_attempt(which), last_heartbeat_time=heard)
        mask = {"paths": ["last_heartbeat_time"]}
        self.ask("UpdateAttempt", pb.UpdateAttemptRequest(attempt=attempt, update_mask=mask))

    @rule(
        which=st.lists(numbers, min_size=1, max_size=4), run_id=run_ids, ended_for=st.none() | some_seconds(0, 5, 100)
    )
    def delete_some(self, which: list[int], run_id: str, ended_for: Duration | None) -> None:
        named = list(dict.fromkeys(map(self.some_rollout, which)))
        unknown = ["ro-unknown", *self.deleted[-1:]]
        request = pb.DeleteRolloutsRequest(rollout_ids=named + unknown + named, run_id=run_id, ended_for=ended_for)
        answer, going = self.ask("DeleteRollouts", request), self.going(request, named)
        assert answer.deleted_count == len(going)
        assert answer.kept_rollout_ids == [rollout_id for rollout_id in named if rollout_id not in going]
        assert answer.unknown_rollout_ids == unknown
        self.forget(going)

    @rule(run_id=run_ids, ended_for=some_seconds(0, 5, 100))
    def delete_ended(self, run_id: str, ended_for: Duration) -> None:
        request = pb.DeleteRolloutsRequest(run_id=run_id, ended_for=ended_for)
        answer, going = self.ask("DeleteRollouts", request), self.going(request, self.rollout_ids)
        assert answer == pb.DeleteRolloutsResponse(deleted_count=len(going))
        self.forget(going)

    # What happens to all

    @rule(seconds=st.sampled_from([0, 1, 2, 6, 20, 61, 250]), restart=st.sampled_from([False, False, True]))
    def time_passes(self, seconds: int, restart: bool) -> None:
        if restart:
            self.server.stop()
            self.counts["restarts"] += 1
        self.server.clock.advance(seconds)
        if restart:
            self.server.start()

    @rule()
    def read_everything(self) -> None:
        for rollout_id, rollout in self.seen.rollouts.items():
            attempts = self.seen.attempts_of(rollout_id)
            stored = [span for attempt in attempts for span in self.seen.spans.get(attempt.attempt_id, ())]
            assert self.ask("GetRollout", pb.GetRolloutRequest(rollout_id=rollout_id)).rollout == rollout
            assert self.ask("ListAttempts", pb.ListAttemptsRequest(rollout_id=rollout_id)).attempts == attempts
            listed = self.ask("ListSpans", pb.ListSpansRequest(rollout_id=rollout_id)).spans
            assert [span.sequence_id for span in listed] == sorted(span.sequence_id for span in stored)
            assert all(span in stored for span in listed)
        terminal = sorted(filter(self.seen.is_terminal, self.rollout_ids))
        known = self.rollout_ids + self.deleted
        waited = [*self.ask("WaitRollouts", pb.WaitRolloutsRequest(rollout_ids=known, wait_timeout=Duration()))]
        assert sorted(rollout.rollout_id for message in waited for rollout in message.rollouts) == terminal
        assert [rollout_id for message in waited for rollout_id in message.unknown_rollout_ids] == self.deleted
        self.copy.catch_up(self.server.stubs[next(self.connections)], self.seen.revision)
        self.copy.check(self.seen)

    # What the rules use

    def ask(self, name: str, request: Any) -> Any:
        """Make a call, as the client whose turn it is."""
        return getattr(self.server.stubs[next(self.connections)], name)(request)

    def ask_once(self, name: str, request: Any) -> Any:
        """Make a call that a repeat must not make again."""
        request.request_id = f"request-{len(self.asked)}"
        answer = self.ask(name, request)
        if name != "DequeueRollouts" or answer.assignments:
            self.asked.append((name, request, answer))
        return answer

    def take(self, assignment: Assignment) -> None:
        attempt = assignment.attempt
        assert attempt == assignment.rollout.latest_attempt
        assert attempt.attempt_id not in self.seen.attempts
        assert assignment.next_sequence_id > self.last_sequence_id[attempt.rollout_id]
        self.refs.append({"rollout_id": attempt.rollout_id, "attempt_id": attempt.attempt_id})

    def going(self, request: pb.DeleteRolloutsRequest, rollout_ids: Iterable[str]) -> set[str]:
        """Those of the rollouts that are to be deleted."""
        ended_by = self.server.clock() - micros(request.ended_for)
        rollouts = [self.seen.rollouts[rollout_id] for rollout_id in filter(self.seen.is_terminal, rollout_ids)]
        return {
            rollout.rollout_id
            for rollout in rollouts
            if request.run_id in ("", rollout.run_id)
            and (not request.HasField("ended_for") or micros(rollout.end_time) <= ended_by)
        }

    def forget(self, deleted: set[str]) -> None:
        """Speak of these no more, and see to it that there is something to speak of."""
        self.counts["rollouts deleted"] += len(deleted)
        self.witness.told.deleted |= deleted
        self.deleted += sorted(deleted)
        self.rollout_ids = [rollout_id for rollout_id in self.rollout_ids if rollout_id not in deleted]
        self.refs = [ref for ref in self.refs if ref["rollout_id"] not in deleted]
        if not self.refs:
            self.begin(RolloutConfig())

    def some_rollout(self, which: int) -> str:
        return self.rollout_ids[which % len(self.rollout_ids)]

    def some_attempt(self, which: int) -> Ref:
        """An attempt; three times out of four one that is held, where there is one."""
        held = [ref for ref in self.refs if self.seen.holds(ref["attempt_id"])]
        known = held if held and which % 4 else self.refs
        return known[which // 4 % len(known)]

    def is_alive(self, attempt_id: str) -> bool:
        return attempt_id in self.seen.attempts and not self.seen.attempts[attempt_id].HasField("end_time")

    def may_revive(self, attempt_id: str) -> bool:
        attempt = self.seen.attempts[attempt_id]
        silent = attempt.status == AttemptStatus.ATTEMPT_STATUS_UNRESPONSIVE
        return self.is_alive(attempt_id) or (silent and self.seen.is_latest(attempt))

    def has_ended(self, attempt_id: str, failure: Failure | None) -> bool:
        """Whether an attempt has ended in just this way."""
        attempt = self.seen.attempts[attempt_id]
        if failure is None:
            return bool(attempt.status == AttemptStatus.ATTEMPT_STATUS_SUCCEEDED)
        kind = failure.kind or FailureKind.FAILURE_KIND_AGENT
        return bool(attempt.failure == Failure(kind=kind, type=failure.type))

    def check_order(self, waiting: list[Rollout], claimed: list[str], limit: int) -> None:
        """First come, first served within a priority; of those that came in one step, any may be first."""
        line = {rollout.rollout_id: (-rollout.priority, self.place[rollout.rollout_id]) for rollout in waiting}
        assert [line[rollout_id] for rollout_id in claimed] == sorted(line.values())[:limit]

    def check_nothing_changed(self) -> None:
        assert self.witness.peek() == self.seen

    def check_stored(self, acknowledged: Iterable[Span]) -> None:
        stored = self.witness.peek().spans
        for span in acknowledged:
            [known] = [known for known in stored[span.attempt_id] if known.span_id == span.span_id]
            self.note_sequence_id(span.rollout_id, known.sequence_id)

    def check_sequence_id(self, span: Span, sequence_id: int) -> None:
        """A span keeps its place; without one it is given one after all others of its rollout."""
        assert sequence_id == (span.sequence_id or max(sequence_id, self.last_sequence_id[span.rollout_id] + 1))
        self.note_sequence_id(span.rollout_id, sequence_id)

    def note_sequence_id(self, rollout_id: str, sequence_id: int) -> None:
        self.last_sequence_id[rollout_id] = max(sequence_id, self.last_sequence_id[rollout_id])


def ids_of(assignments: Iterable[Assignment]) -> list[str]:
    return [assignment.attempt.attempt_id for assignment in assignments]


def test_whatever_clients_do_the_store_keeps_its_promises(
    serve_on_thread: Callable[..., Any],
    witness_of: Callable[[Any], Any],
    new_copy: Callable[[], Any],
    tried: Callable[..., Any],
) -> None:
    counts: Counter[str] = Counter()
    run_state_machine_as_test(
        lambda: Clients(serve_on_thread, witness_of, new_copy(), counts),
        settings=tried(short=(20, 40), long=(1000, 100)),
    )
    print("\n" + ", ".join(f"{count} {what}" for what, count in counts.items()))
