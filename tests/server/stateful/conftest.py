"""What a store holds at one moment, and what is promised of it: of every moment, and of what lies between two."""

import os
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
from agentlightning.semconv import PRIMARY_REWARD_VALUE
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.attempt_pb2 import Attempt, AttemptStatus
from agentlightning.v1.rollout_pb2 import Rollout, RolloutConfig, RolloutStatus
from agentlightning.v1.span_pb2 import Span
from agentlightning.v1.worker_pb2 import Worker
from agentlightning_server.storage.rows import attempt_message, micros
from hypothesis import HealthCheck, Phase, settings

QUEUED = {RolloutStatus.ROLLOUT_STATUS_QUEUING, RolloutStatus.ROLLOUT_STATUS_REQUEUING}
LEASED = {RolloutStatus.ROLLOUT_STATUS_PREPARING, RolloutStatus.ROLLOUT_STATUS_RUNNING}
TERMINAL = {
    RolloutStatus.ROLLOUT_STATUS_SUCCEEDED,
    RolloutStatus.ROLLOUT_STATUS_FAILED,
    RolloutStatus.ROLLOUT_STATUS_CANCELLED,
}
LIVE = {AttemptStatus.ATTEMPT_STATUS_PREPARING, AttemptStatus.ATTEMPT_STATUS_RUNNING}

_NUMBERS = ("int_value", "double_value")
# What signs of life change, which is no change that a watch would show.
_UNWATCHED = ("last_heartbeat_time", "last_dequeue_time", "lease_expire_time", "revision")

Watched = TypeVar("Watched", Rollout, Attempt, Worker)


@dataclass(frozen=True)
class Seen:
    """All that a store holds: rollouts and counts as the protocol shows them, the rest as its file has it."""

    now: int
    revision: int
    rollouts: dict[str, Rollout]
    attempts: dict[str, Attempt]
    lost: frozenset[str]
    """The attempts that were lost."""
    releases: dict[str, int]
    """By rollout."""
    spans: dict[str, list[Span]]
    """By attempt, in their order."""
    workers: list[Worker]
    statistics: pb.GetStatisticsResponse

    @classmethod
    def of(cls, stub: Any, database: Path, now: int) -> Self:
        """The store as it is; whatever is due happens first, as it does before every read."""
        listed = stub.ListRollouts(pb.ListRolloutsRequest(page_size=1000))
        assert not listed.next_page_token
        spans = defaultdict(list)
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as file:
            file.row_factory = sqlite3.Row
            attempts = file.execute("SELECT * FROM attempts ORDER BY rollout_id, sequence_id").fetchall()
            for row in file.execute("SELECT attempt_id, span FROM spans ORDER BY sequence_id, id"):
                spans[row["attempt_id"]].append(Span.FromString(row["span"]))
            releases = dict(file.execute("SELECT rollout_id, release_count FROM rollouts").fetchall())
        workers = list(stub.ListWorkers(pb.ListWorkersRequest()).workers)
        statistics = stub.GetStatistics(pb.GetStatisticsRequest())
        for moving in ("rates", "uptime", "database_bytes"):
            statistics.ClearField(moving)
        return cls(
            now=now,
            revision=listed.revision,
            rollouts={rollout.rollout_id: rollout for rollout in listed.rollouts},
            attempts={row["attempt_id"]: attempt_message(row) for row in attempts},
            lost=frozenset(row["attempt_id"] for row in attempts if row["lost"]),
            releases=releases,
            spans=spans,
            workers=workers,
            statistics=statistics,
        )

    def without(self, deleted: Collection[str]) -> Self:
        """The same without some rollouts and all that was theirs."""
        attempts = {name: one for name, one in self.attempts.items() if one.rollout_id not in deleted}
        return replace(
            self,
            rollouts={name: one for name, one in self.rollouts.items() if name not in deleted},
            attempts=attempts,
            lost=self.lost & attempts.keys(),
            spans={name: spans for name, spans in self.spans.items() if name in attempts},
        )

    def standings(self) -> list[tuple[str, int]]:
        """Every status there is."""
        both = (self.rollouts, self.attempts)
        return [(name, messages[name].status) for messages in both for name in messages]

    def attempts_of(self, rollout_id: str) -> list[Attempt]:
        """The attempts of a rollout, first to latest."""
        return [attempt for attempt in self.attempts.values() if attempt.rollout_id == rollout_id]

    def is_latest(self, attempt: Attempt) -> bool:
        return self.rollouts[attempt.rollout_id].latest_attempt.attempt_id == attempt.attempt_id

    def is_terminal(self, rollout_id: str) -> bool:
        return self.rollouts[rollout_id].status in TERMINAL

    def queued(self) -> list[Rollout]:
        """What waits in a queue, some of it for a back-off to end."""
        return [rollout for rollout in self.rollouts.values() if rollout.status in QUEUED]

    def holds(self, attempt_id: str) -> bool:
        """Whether an attempt is its worker's still: alive, or silent while nobody has claimed the rollout since."""
        if (attempt := self.attempts.get(attempt_id)) is None:
            return False
        status = self.rollouts[attempt.rollout_id].status
        silent = (AttemptStatus.ATTEMPT_STATUS_UNRESPONSIVE, RolloutStatus.ROLLOUT_STATUS_REQUEUING)
        alive = attempt.status in LIVE and status not in TERMINAL
        return self.is_latest(attempt) and (alive or (attempt.status, status) == silent)


@dataclass
class Told:
    """What an administrator said, which is allowed more than events are."""

    rollouts: set[str] = field(default_factory=set)
    """Whose status was set, or that were given another attempt, in this step."""
    attempts: set[str] = field(default_factory=set)
    """Whose status was set in this step."""
    ever: set[str] = field(default_factory=set)
    """Rollouts that were ever told anything."""
    deleted: set[str] = field(default_factory=set)
    """Rollouts that were deleted in this step."""

    def rollout(self, rollout_id: str) -> None:
        self.rollouts.add(rollout_id)
        self.ever.add(rollout_id)

    def attempt(self, rollout_id: str, attempt_id: str) -> None:
        self.attempts.add(attempt_id)
        self.ever.add(rollout_id)

    def next_step(self) -> None:
        self.rollouts.clear()
        self.attempts.clear()
        self.deleted.clear()


@dataclass(frozen=True)
class Step:
    """Two moments, the first without what was deleted since, and what was told in between."""

    before: Seen
    seen: Seen
    told: Told


def a_rollout_has_one_live_attempt_at_most_and_it_is_the_latest(step: Step) -> None:
    live = [attempt for attempt in step.seen.attempts.values() if attempt.status in LIVE]
    assert all(step.seen.is_latest(attempt) for attempt in live)
    assert max(Counter(attempt.rollout_id for attempt in live).values(), default=0) <= 1


def a_queued_rollout_is_nobodys(step: Step) -> None:
    for rollout in step.seen.rollouts.values():
        assert not (rollout.status in QUEUED and rollout.latest_attempt.status in LIVE)


def what_is_neither_queued_nor_terminal_is_somebodys(step: Step) -> None:
    for rollout in step.seen.rollouts.values():
        if rollout.status in LEASED and rollout.rollout_id not in step.told.ever:
            assert rollout.latest_attempt.status in LIVE


def what_was_enqueued_is_queued_or_leased_or_terminal(step: Step) -> None:
    rollouts, statistics = step.seen.rollouts.values(), step.seen.statistics
    everywhere = Counter(rollout.status for rollout in rollouts)
    assert everywhere.keys() <= QUEUED | LEASED | TERMINAL
    assert {count.status: count.count for count in statistics.rollouts} == everywhere
    for queue in statistics.queues:
        here = Counter(rollout.status for rollout in rollouts if rollout.queue == queue.queue)
        assert {count.status: count.count for count in queue.rollouts} == here
        assert queue.queued_count == sum(here[status] for status in QUEUED)
    assert {rollout.queue for rollout in rollouts} == {queue.queue for queue in statistics.queues}


def what_is_counted_is_there(step: Step) -> None:
    seen, statistics = step.seen, step.seen.statistics
    held = Counter(attempt.worker_id for attempt in seen.attempts.values() if attempt.status in LIVE)
    assert {leases.worker_id: leases.attempt_count for leases in statistics.leases} == held
    assert statistics.attempt_count == len(seen.attempts)
    assert statistics.span_count == sum(map(len, seen.spans.values()))


def nothing_is_lost(step: Step) -> None:
    assert step.before.rollouts.keys() <= step.seen.rollouts.keys()
    assert step.before.attempts.keys() <= step.seen.attempts.keys()
    for attempt_id, spans in step.before.spans.items():
        assert [span for span in step.seen.spans[attempt_id] if span in spans] == spans


def nothing_is_left_of_what_was_deleted(step: Step) -> None:
    seen = step.seen
    assert not seen.rollouts.keys() & step.told.deleted
    assert {attempt.rollout_id for attempt in seen.attempts.values()} <= seen.rollouts.keys()
    assert seen.spans.keys() <= seen.attempts.keys()


def the_terminal_stays_as_it_is_unless_it_is_reopened(step: Step) -> None:
    for rollout_id, rollout in step.before.rollouts.items():
        if rollout.status in TERMINAL and rollout_id not in step.told.rollouts:
            assert step.seen.rollouts[rollout_id].status == rollout.status
            assert step.seen.rollouts[rollout_id].end_time == rollout.end_time


def what_was_superseded_never_changes_by_itself(step: Step) -> None:
    for attempt_id, attempt in step.before.attempts.items():
        if not step.before.is_latest(attempt) and attempt_id not in step.told.attempts:
            assert step.seen.attempts[attempt_id].status == attempt.status


def every_change_has_a_greater_revision(step: Step) -> None:
    before, after = step.before, step.seen
    assert after.revision >= before.revision
    for then, now in ((before.rollouts, after.rollouts), (before.attempts, after.attempts)):
        for name in then:
            assert then[name].revision <= now[name].revision <= after.revision
            assert now[name].revision > before.revision or _watched(now[name]) == _watched(then[name])


def what_has_ended_says_when_and_not_before_it_began(step: Step) -> None:
    for rollout in step.seen.rollouts.values():
        assert rollout.HasField("end_time") == (rollout.status in TERMINAL)
        assert not rollout.HasField("end_time") or micros(rollout.end_time) >= micros(rollout.create_time)
    for attempt in step.seen.attempts.values():
        assert attempt.HasField("end_time") == (attempt.status not in LIVE)
        assert not attempt.HasField("end_time") or micros(attempt.end_time) >= micros(attempt.start_time)


def nothing_is_shown_whose_deadline_has_passed(step: Step) -> None:
    for attempt in step.seen.attempts.values():
        if attempt.status in LIVE:
            deadlines = _deadlines(step.seen.rollouts[attempt.rollout_id].config, attempt)
            assert all(step.seen.now < deadline for deadline in deadlines)
    for rollout in step.seen.rollouts.values():
        assert not rollout.HasField("available_time") or step.seen.now < micros(rollout.available_time)


def only_what_is_requeued_has_a_back_off(step: Step) -> None:
    for rollout in step.seen.rollouts.values():
        requeued = rollout.status == RolloutStatus.ROLLOUT_STATUS_REQUEUING
        assert requeued or not rollout.HasField("available_time")


def nobody_claims_what_is_not_available_yet(step: Step) -> None:
    for rollout_id, rollout in step.before.rollouts.items():
        if step.seen.now < micros(rollout.available_time) and rollout_id not in step.told.rollouts:
            assert step.seen.rollouts[rollout_id].attempt_count == rollout.attempt_count


def attempts_are_numbered_from_one_and_the_last_is_the_latest(step: Step) -> None:
    for rollout in step.seen.rollouts.values():
        attempts = step.seen.attempts_of(rollout.rollout_id)
        assert [attempt.sequence_id for attempt in attempts] == list(range(1, rollout.attempt_count + 1))
        assert rollout.latest_attempt == (attempts[-1] if attempts else Attempt())


def redeliveries_are_the_attempts_that_were_lost(step: Step) -> None:
    lost = Counter(step.seen.attempts[attempt_id].rollout_id for attempt_id in step.seen.lost)
    for rollout_id, rollout in step.seen.rollouts.items():
        assert rollout.redelivery_count == lost[rollout_id]


def no_more_attempts_are_made_than_allowed(step: Step) -> None:
    for rollout_id, rollout in step.seen.rollouts.items():
        if rollout_id not in step.told.ever:
            counted = rollout.attempt_count - rollout.redelivery_count - step.seen.releases[rollout_id]
            assert counted <= rollout.config.max_attempts
            assert rollout.redelivery_count <= rollout.config.max_redeliveries


def a_span_is_stored_once(step: Step) -> None:
    for spans in step.seen.spans.values():
        assert len({span.span_id for span in spans}) == len(spans)


def the_final_reward_is_that_of_the_last_reward_span(step: Step) -> None:
    for attempt in step.seen.attempts.values():
        rewards = [reward for span in step.seen.spans.get(attempt.attempt_id, ()) for reward in _rewards(span)]
        assert attempt.HasField("final_reward") == bool(rewards)
        assert not rewards or attempt.final_reward == rewards[-1]


def a_worker_is_busy_with_what_is_alive(step: Step) -> None:
    for worker in step.seen.workers:
        if worker.current_attempt_id:
            assert step.seen.attempts[worker.current_attempt_id].status in LIVE


PROMISES = (
    a_rollout_has_one_live_attempt_at_most_and_it_is_the_latest,
    a_queued_rollout_is_nobodys,
    what_is_neither_queued_nor_terminal_is_somebodys,
    what_was_enqueued_is_queued_or_leased_or_terminal,
    what_is_counted_is_there,
    nothing_is_lost,
    nothing_is_left_of_what_was_deleted,
    the_terminal_stays_as_it_is_unless_it_is_reopened,
    what_was_superseded_never_changes_by_itself,
    every_change_has_a_greater_revision,
    what_has_ended_says_when_and_not_before_it_began,
    nothing_is_shown_whose_deadline_has_passed,
    only_what_is_requeued_has_a_back_off,
    nobody_claims_what_is_not_available_yet,
    attempts_are_numbered_from_one_and_the_last_is_the_latest,
    redeliveries_are_the_attempts_that_were_lost,
    no_more_attempts_are_made_than_allowed,
    a_span_is_stored_once,
    the_final_reward_is_that_of_the_last_reward_span,
    a_worker_is_busy_with_what_is_alive,
)


class Witness:
    """Looks at a store again and again, and holds it to its promises.

    Attributes:
        seen: What it saw last.
        told: What an administrator has said since.
    """

    def __init__(self, server: Any) -> None:
        self._server = server
        self.told = Told()
        self.seen = self.peek()

    def peek(self) -> Seen:
        """The store as it is at one moment: looked at until nothing changes meanwhile."""
        while True:
            seen = Seen.of(self._server.stubs[0], self._server.database, self._server.clock())
            if seen.revision == seen.statistics.revision:
                return seen

    def look(self) -> Seen:
        """The store as it is, once it is found to keep its promises."""
        step = Step(self.seen.without(self.told.deleted), self.peek(), self.told)
        for promise in PROMISES:
            promise(step)
        self.told.next_step()
        self.seen = step.seen
        return self.seen


class Copy:
    """What a watcher holds that applied all it was sent.

    Attributes:
        revision: From where to go on.
    """

    def __init__(self) -> None:
        self.revision = 0
        self._rollouts: dict[str, Rollout] = {}
        self._workers: dict[str, Worker] = {}

    def apply(self, message: pb.WatchResponse) -> None:
        for change in message.changes:
            assert self.revision < change.revision <= message.revision
            self.revision = change.revision
            self._rollouts.pop(change.deleted.rollout_id, None)
            if change.HasField("rollout"):
                self._rollouts[change.rollout.rollout_id] = change.rollout
            if change.HasField("worker"):
                self._workers[change.worker.worker_id] = change.worker
        self.revision = message.revision

    def catch_up(self, stub: Any, revision: int) -> None:
        """Apply what there is up to a revision."""
        watch = stub.Watch(pb.WatchRequest(after_revision=self.revision))
        while True:
            self.apply(next(watch))
            if self.revision >= revision:
                watch.cancel()
                return

    def check(self, seen: Seen) -> None:
        """It is what the store holds."""
        assert _all_watched(self._rollouts) == _all_watched(seen.rollouts)
        assert _all_watched(self._workers) == _all_watched({worker.worker_id: worker for worker in seen.workers})


@pytest.fixture(scope="session")
def tried() -> Callable[..., settings]:
    """How many histories of how many steps a state machine is led through: `AGL_TEST_LENGTH=long` is the long way."""

    def settings_of(*, short: tuple[int, int], long: tuple[int, int]) -> settings:
        is_long = os.environ.get("AGL_TEST_LENGTH") == "long"
        histories, steps = long if is_long else short
        return settings(
            max_examples=histories,
            stateful_step_count=steps,
            derandomize=not is_long,
            # Making an example smaller takes minutes: a short run says at once that it failed.
            phases=[Phase.generate, Phase.shrink] if is_long else [Phase.generate],
            database=None,
            deadline=None,
            print_blob=True,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )

    return settings_of


@pytest.fixture(scope="session")
def new_copy() -> Callable[[], Copy]:
    """Makes a watcher's copy that nothing was applied to."""
    return Copy


@pytest.fixture(scope="session")
def witness_of() -> Callable[[Any], Witness]:
    """Has a witness look at a server."""
    return Witness


def _deadlines(config: RolloutConfig, attempt: Attempt) -> Iterable[int]:
    start = micros(attempt.start_time)
    if config.HasField("timeout"):
        yield start + micros(config.timeout)
    if config.HasField("unresponsive_timeout"):
        heard = micros(attempt.last_heartbeat_time) if attempt.HasField("last_heartbeat_time") else start
        yield heard + micros(config.unresponsive_timeout)
    elif attempt.HasField("lease_expire_time"):
        yield micros(attempt.lease_expire_time)


def _rewards(span: Span) -> Iterable[float]:
    for attribute in span.attributes:
        if attribute.key == PRIMARY_REWARD_VALUE and attribute.value.WhichOneof("value") in (
            "int_value",
            "double_value",
        ):
            yield attribute.value.double_value or float(attribute.value.int_value)


def _watched(message: Watched) -> Watched:
    watched = type(message)()
    watched.CopyFrom(message)
    for part in (watched, watched.latest_attempt) if isinstance(watched, Rollout) else (watched,):
        for name in set(_UNWATCHED) & set(part.DESCRIPTOR.fields_by_name):
            part.ClearField(name)
    if isinstance(watched, Worker):
        watched.ClearField("queue")
    return watched


def _all_watched(messages: dict[str, Watched]) -> dict[str, Watched]:
    return {name: _watched(message) for name, message in messages.items()}
