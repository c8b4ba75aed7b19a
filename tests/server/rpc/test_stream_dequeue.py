"""StreamDequeue over a real socket: work as far as credits go, and word of each attempt that is lost, at once."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.attempt_pb2 import Attempt, AttemptStatus, Failure, FailureKind
from agentlightning.v1.rollout_pb2 import Rollout, RolloutConfig, RolloutStatus
from agentlightning.v1.store_service_pb2_grpc import StoreServiceStub
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2, status_pb2

BOUND = 10.0
LONG = Duration(seconds=30)
LARGE = '"' + "x" * 50_000 + '"'
"""Twenty are claimed at once; a connection that nobody reads from takes a few."""
"""A task of which a connection does not take many from a worker that does not read."""


class Worker:
    """One worker's stream, and the other calls that a worker makes."""

    def __init__(self, stub: Any, **opening: Any) -> None:
        self.stub = stub
        self.call = stub.StreamDequeue()
        self._opening = pb.StreamDequeueRequest.Open(**opening)

    async def open(self) -> pb.StreamDequeueResponse.Opened:
        await self.say(open=self._opening)
        return (await self.hear("opened")).opened

    async def say(self, **message: Any) -> None:
        await self.call.write(pb.StreamDequeueRequest(**message))

    async def hear(self, kind: str) -> pb.StreamDequeueResponse:
        """The next message, which is of this kind."""
        async with asyncio.timeout(BOUND):
            message = await self.call.read()
        assert message is not grpc.aio.EOF
        assert message.WhichOneof("message") == kind
        return message

    async def assigned(self) -> Any:
        return (await self.hear("assignment")).assignment

    async def lost(self) -> tuple[str, str, str]:
        """Of the attempt that it is told to abandon next: id, reason, status."""
        lost = (await self.hear("lost")).lost
        return lost.attempt.attempt_id, lost.reason, AttemptStatus.Name(lost.status).removeprefix("ATTEMPT_STATUS_")

    async def ended(self) -> grpc.StatusCode:
        """Half-close, hear nothing more, and say how the stream ended."""
        await self.call.done_writing()
        async with asyncio.timeout(BOUND):
            assert await self.call.read() is grpc.aio.EOF
            code: grpc.StatusCode = await self.call.code()
        return code

    async def holds(self, assignment: Any) -> bool:
        answer = await self.stub.HeartbeatAttempts(pb.HeartbeatAttemptsRequest(attempts=[ref(assignment)]))
        return bool(answer.results[0].held)

    async def complete(self, assignment: Any) -> None:
        done = pb.CompleteAttemptRequest.Succeeded()
        await self.stub.CompleteAttempt(pb.CompleteAttemptRequest(**ids(assignment), succeeded=done))


@asynccontextmanager
async def streaming(server: Any, **opening: Any) -> AsyncIterator[Worker]:
    """A worker whose stream is open while the block runs."""
    worker = Worker(server.stub, **opening)
    try:
        await worker.open()
        yield worker
    finally:
        worker.call.cancel()


def ids(assignment: Any) -> dict[str, str]:
    return {"rollout_id": assignment.attempt.rollout_id, "attempt_id": assignment.attempt.attempt_id}


def ref(assignment: Any) -> pb.AttemptRef:
    return pb.AttemptRef(**ids(assignment))


async def cancel(server: Any, *assignments: Any) -> None:
    rollout_ids = [assignment.rollout.rollout_id for assignment in assignments]
    await server.stub.CancelRollouts(pb.CancelRolloutsRequest(rollout_ids=rollout_ids))


async def has_looked(server: Any, worker_id: str) -> None:
    """Returns once the worker has looked for work in vain, and so stands in line."""
    async with asyncio.timeout(BOUND):
        while True:
            try:
                await server.stub.GetWorker(pb.GetWorkerRequest(worker_id=worker_id))
                return
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.NOT_FOUND


async def streams_are_gone() -> None:
    """Returns once no task of a stream is left in the server, which runs in this loop."""
    async with asyncio.timeout(BOUND):
        while left := [task for task in asyncio.all_tasks() if task.get_name() == "stream"]:
            await asyncio.wait(left)


# Opening


async def test_the_answer_to_open_tells_the_lease_and_to_renew_it_every_third_of_it(server: Any) -> None:
    worker = Worker(server.stub, lease_duration=Duration(seconds=30))
    opened = await worker.open()
    assert (opened.lease_duration.seconds, opened.heartbeat_interval.seconds) == (30, 10)
    worker.call.cancel()


async def test_a_lease_lasts_a_minute_unless_asked_otherwise(server: Any) -> None:
    worker = Worker(server.stub)
    assert (await worker.open()).lease_duration.seconds == 60
    worker.call.cancel()


# Credits


async def test_a_stream_is_sent_as_much_as_it_has_credits_for(server: Any) -> None:
    rollouts = await server.enqueue("1", "2", "3")
    async with streaming(server, credits=2) as worker:
        assert [(await worker.assigned()).rollout.input_json for _ in range(2)] == ["1", "2"]
        assert (await server.get(rollouts[2].rollout_id)).status == RolloutStatus.ROLLOUT_STATUS_QUEUING
        await worker.say(add_credits=1)
        assert (await worker.assigned()).rollout.input_json == "3"


async def test_work_that_comes_later_is_pushed(server: Any) -> None:
    async with streaming(server, credits=3) as worker:
        for task in ("1", "2", "3"):
            await server.enqueue(task)
            assert (await worker.assigned()).rollout.input_json == task


async def test_work_that_comes_all_at_once_is_pushed_to_the_last(server: Any) -> None:
    async with streaming(server, credits=20, worker_id="w") as worker:
        await has_looked(server, "w")
        await server.enqueue(*map(str, range(20)))
        assert [(await worker.assigned()).rollout.input_json for _ in range(20)] == [*map(str, range(20))]


async def test_a_stream_is_sent_the_work_of_its_queue_alone(server: Any) -> None:
    async with streaming(server, queue="rooms", credits=2) as worker:
        await server.enqueue("1")
        await server.enqueue("2", queue="rooms")
        assert (await worker.assigned()).rollout.input_json == "2"


async def test_what_is_sent_is_leased_already(server: Any) -> None:
    await server.enqueue()
    async with streaming(server, credits=1, worker_id="w", lease_duration=Duration(seconds=30)) as worker:
        assignment = await worker.assigned()
        rollout = await server.get(assignment.rollout.rollout_id)
        assert rollout.status == RolloutStatus.ROLLOUT_STATUS_PREPARING
        assert assignment.attempt.worker_id == "w"
        assert assignment.attempt.lease_expire_time.seconds - assignment.attempt.start_time.seconds == 30
        assert assignment.heartbeat_interval.seconds == 10


async def test_streams_and_polls_stand_in_one_line(server: Any) -> None:
    async with streaming(server, credits=1, worker_id="first") as worker:
        await has_looked(server, "first")
        poll = asyncio.create_task(server.dequeue(worker_id="second", wait_timeout=LONG))
        await has_looked(server, "second")
        await server.enqueue("1", "2")
        assert (await worker.assigned()).rollout.input_json == "1"
        assert (await poll).rollout.input_json == "2"


async def test_a_stream_with_many_credits_takes_no_more_than_its_turn(server: Any) -> None:
    async with streaming(server, credits=100, worker_id="first"):
        await has_looked(server, "first")
        poll = asyncio.create_task(server.dequeue(worker_id="second", wait_timeout=LONG))
        await has_looked(server, "second")
        await server.enqueue("1", "2")
        async with asyncio.timeout(BOUND):
            assert (await poll).rollout.input_json == "2"


async def test_a_stream_that_ends_in_line_is_passed_over(server: Any) -> None:
    async with streaming(server, credits=1, worker_id="first") as worker:
        await has_looked(server, "first")
        assert await worker.ended() is grpc.StatusCode.OK
    poll = asyncio.create_task(server.dequeue(worker_id="second", wait_timeout=LONG))
    await has_looked(server, "second")
    await server.enqueue("1")
    async with asyncio.timeout(BOUND):
        assert (await poll).rollout.input_json == "1"


# What is lost


async def test_a_cancelled_attempt_is_told(server: Any) -> None:
    await server.enqueue()
    async with streaming(server, credits=1) as worker:
        assignment = await worker.assigned()
        await cancel(server, assignment)
        assert await worker.lost() == (assignment.attempt.attempt_id, "ATTEMPT_ENDED", "CANCELLED")


async def test_an_attempt_that_ran_out_of_time_is_told(server: Any) -> None:
    await server.enqueue(config=RolloutConfig(timeout=Duration(seconds=5)))
    async with streaming(server, credits=1) as worker:
        assignment = await worker.assigned()
        server.clock.advance(6)
        await server.get(assignment.rollout.rollout_id)
        assert await worker.lost() == (assignment.attempt.attempt_id, "ATTEMPT_ENDED", "TIMEOUT")


async def test_a_superseded_attempt_is_told(server: Any) -> None:
    await server.enqueue()
    async with streaming(server, credits=1) as worker:
        assignment = await worker.assigned()
        await server.stub.StartAttempt(pb.StartAttemptRequest(rollout_id=assignment.rollout.rollout_id))
        assert await worker.lost() == (assignment.attempt.attempt_id, "ATTEMPT_SUPERSEDED", "CANCELLED")


async def test_an_expired_lease_is_told_once_another_has_the_work(server: Any) -> None:
    """Until then a heartbeat would bring the attempt back."""
    await server.enqueue()
    async with streaming(server, credits=1) as worker:
        assignment = await worker.assigned()
        server.clock.advance(61)
        rollout = await server.get(assignment.rollout.rollout_id)
        assert rollout.status == RolloutStatus.ROLLOUT_STATUS_REQUEUING
        assert await server.dequeue(worker_id="another") is not None
        assert await worker.lost() == (assignment.attempt.attempt_id, "ATTEMPT_SUPERSEDED", "UNRESPONSIVE")


@pytest.mark.parametrize(
    ("rollout", "attempt", "expected"),
    [
        (None, AttemptStatus.ATTEMPT_STATUS_FAILED, "FAILED"),
        (RolloutStatus.ROLLOUT_STATUS_SUCCEEDED, None, "CANCELLED"),
        (RolloutStatus.ROLLOUT_STATUS_REQUEUING, None, "CANCELLED"),
    ],
)
async def test_what_an_administrator_ends_is_told(server: Any, rollout: Any, attempt: Any, expected: str) -> None:
    await server.enqueue()
    async with streaming(server, credits=1) as worker:
        assignment = await worker.assigned()
        mask = FieldMask(paths=["status"])
        if rollout is None:
            update = Attempt(**ids(assignment), status=attempt)
            await server.stub.UpdateAttempt(pb.UpdateAttemptRequest(attempt=update, update_mask=mask))
        else:
            change = Rollout(rollout_id=assignment.rollout.rollout_id, status=rollout)
            await server.stub.UpdateRollout(pb.UpdateRolloutRequest(rollout=change, update_mask=mask))
        assert await worker.lost() == (assignment.attempt.attempt_id, "ATTEMPT_ENDED", expected)


async def test_what_the_worker_completed_or_released_is_not_told(server: Any) -> None:
    await server.enqueue("1", "2", "3")
    async with streaming(server, credits=3) as worker:
        completed, released, cancelled = [await worker.assigned() for _ in range(3)]
        await worker.complete(completed)
        await server.stub.ReleaseAttempts(pb.ReleaseAttemptsRequest(attempts=[ref(released)]))
        await cancel(server, completed, released, cancelled)
        assert (await worker.lost())[0] == cancelled.attempt.attempt_id
        assert await worker.ended() is grpc.StatusCode.OK


async def test_those_held_at_the_opening_are_told_at_once_if_they_are_lost_and_else_when_they_are(server: Any) -> None:
    await server.enqueue("1", "2", "3")
    alive, ended, superseded = [await server.dequeue() for _ in range(3)]
    await cancel(server, ended)
    await server.stub.StartAttempt(pb.StartAttemptRequest(rollout_id=superseded.rollout.rollout_id))
    unknown = pb.AttemptRef(rollout_id=alive.rollout.rollout_id, attempt_id="at-unknown")
    async with streaming(server, held=[ref(alive), ref(ended), ref(superseded), unknown]) as worker:
        assert [await worker.lost() for _ in range(3)] == [
            (ended.attempt.attempt_id, "ATTEMPT_ENDED", "CANCELLED"),
            (superseded.attempt.attempt_id, "ATTEMPT_SUPERSEDED", "CANCELLED"),
            ("at-unknown", "ATTEMPT_NOT_FOUND", "UNSPECIFIED"),
        ]
        await cancel(server, alive)
        assert (await worker.lost())[0] == alive.attempt.attempt_id


async def test_an_attempt_claimed_with_another_call_is_told_once_it_is_held(server: Any) -> None:
    await server.enqueue("1", "2")
    async with streaming(server) as worker:
        alive, ended = await server.dequeue(), await server.dequeue()
        await cancel(server, ended)
        await worker.say(hold=ref(alive))
        await worker.say(hold=ref(ended))
        assert (await worker.lost())[0] == ended.attempt.attempt_id
        await cancel(server, alive)
        assert (await worker.lost())[0] == alive.attempt.attempt_id


async def test_an_attempt_held_twice_is_told_once(server: Any) -> None:
    await server.enqueue("1", "2")
    async with streaming(server, credits=2) as worker:
        first, second = await worker.assigned(), await worker.assigned()
        await worker.say(hold=ref(first))
        await cancel(server, first, second)
        assert {(await worker.lost())[0] for _ in range(2)} == {first.attempt.attempt_id, second.attempt.attempt_id}
        assert await worker.ended() is grpc.StatusCode.OK


async def test_each_stream_that_holds_an_attempt_is_told(server: Any) -> None:
    """A new stream may be open before the server knows that the old one is broken."""
    await server.enqueue()
    async with streaming(server, credits=1) as before:
        assignment = await before.assigned()
        async with streaming(server, held=[ref(assignment)]) as after:
            await after.say(hold=pb.AttemptRef(rollout_id="ro", attempt_id="at"))
            assert (await after.lost())[0] == "at"
            await cancel(server, assignment)
            assert (await before.lost())[0] == (await after.lost())[0] == assignment.attempt.attempt_id


# The end


async def test_a_stream_that_the_worker_half_closes_ends_well_and_leaves_the_lease(server: Any) -> None:
    await server.enqueue()
    async with streaming(server, credits=5) as worker:
        assignment = await worker.assigned()
        assert await worker.ended() is grpc.StatusCode.OK
        assert await worker.holds(assignment)


async def test_work_at_hand_is_sent_though_the_worker_has_said_all_it_has_to_say(server: Any) -> None:
    """As grpcurl does: it half-closes right after its last message."""
    await server.enqueue("1", "2")
    worker = Worker(server.stub)
    await worker.say(open=pb.StreamDequeueRequest.Open())
    await worker.say(add_credits=1)
    await worker.call.done_writing()
    await worker.hear("opened")
    assert (await worker.assigned()).rollout.input_json == "1"
    assert await worker.ended() is grpc.StatusCode.OK


async def test_a_drained_stream_is_sent_nothing_but_what_is_lost(server: Any) -> None:
    await server.enqueue("1")
    async with streaming(server, credits=5, worker_id="w") as worker:
        assignment = await worker.assigned()
        await worker.say(drain=pb.StreamDequeueRequest.Drain())
        await worker.say(add_credits=5)
        await worker.say(hold=pb.AttemptRef(rollout_id="ro", attempt_id="at"))
        assert (await worker.lost())[0] == "at"
        await server.enqueue("2")
        await cancel(server, assignment)
        assert (await worker.lost())[0] == assignment.attempt.attempt_id
        assert await worker.ended() is grpc.StatusCode.OK
    assert (await server.dequeue()).rollout.input_json == "2"


async def test_tasks_too_large_to_be_claimed_at_once_are_all_sent(server: Any) -> None:
    await server.enqueue(*[LARGE] * 60)
    async with streaming(server, credits=60) as worker:
        assert len({(await worker.assigned()).attempt.attempt_id for _ in range(60)}) == 60


async def test_a_stream_that_breaks_gives_back_what_was_not_written_and_no_more(server: Any) -> None:
    await server.enqueue(*[LARGE] * 60)
    async with streaming(server, credits=60) as worker:
        known = await worker.assigned()
    while (given_back := await server.dequeue(wait_timeout=LONG)).attempt.sequence_id == 1:
        pass  # not claimed before
    assert given_back.rollout.rollout_id != known.rollout.rollout_id
    assert await worker.holds(known)


async def test_what_is_given_back_costs_no_attempt(server: Any) -> None:
    config = RolloutConfig(max_attempts=2, retry_condition=[AttemptStatus.ATTEMPT_STATUS_FAILED])
    await server.enqueue(*[LARGE] * 20, config=config)
    async with streaming(server, credits=20) as worker:
        await worker.assigned()
    given_back = await server.dequeue(wait_timeout=LONG)
    failed = pb.CompleteAttemptRequest(**ids(given_back), failure=Failure(kind=FailureKind.FAILURE_KIND_AGENT))
    answer = await server.stub.CompleteAttempt(failed)
    assert answer.rollout.status == RolloutStatus.ROLLOUT_STATUS_REQUEUING
    assert answer.rollout.redelivery_count == 0


async def test_workers_that_break_off_at_any_moment_leave_no_rollout_undone(server: Any) -> None:
    """What was on its way to one that broke off comes back with its lease, all else at once."""
    chance = random.Random(7)
    rollouts = await server.enqueue(*map(str, range(150)), config=RolloutConfig(max_redeliveries=1000))

    async def work_for_a_while() -> None:
        async with streaming(server, credits=chance.randint(1, 10)) as worker:
            for _ in range(chance.randint(0, 8)):
                try:
                    async with asyncio.timeout(0.1):
                        assignment = await worker.assigned()
                except TimeoutError:
                    return
                if chance.random() < 0.8:
                    await worker.complete(assignment)
                    await worker.say(add_credits=1)

    undone = len(rollouts)
    async with asyncio.timeout(BOUND):
        while undone:
            await asyncio.gather(*(work_for_a_while() for _ in range(8)))
            server.clock.advance(61)
            found = await server.stub.ListRollouts(pb.ListRolloutsRequest(page_size=1000))
            undone = sum(one.status != RolloutStatus.ROLLOUT_STATUS_SUCCEEDED for one in found.rollouts)


async def test_streams_that_end_or_break_leave_nothing_behind(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    before = asyncio.all_tasks()
    await server.enqueue(*map(str, range(10)))
    for number in range(10):
        async with streaming(server, credits=number % 3) as worker:
            if number % 2:
                await worker.call.done_writing()
    with pytest.raises(grpc.aio.AioRpcError):
        await Worker(server.stub, credits=-1).open()
    await streams_are_gone()
    await server.get((await server.enqueue())[0].rollout_id)
    assert {task.get_name() for task in asyncio.all_tasks() - before if "stream" in task.get_name()} == set()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_many_streams_are_told_each_of_its_own(server: Any) -> None:
    rollouts = await server.enqueue(*map(str, range(200)))
    answer = await server.stub.DequeueRollouts(pb.DequeueRolloutsRequest(max_rollouts=200))
    workers = [Worker(server.stub, held=[ref(assignment)]) for assignment in answer.assignments]
    await asyncio.gather(*(worker.open() for worker in workers))
    await server.stub.CancelRollouts(pb.CancelRolloutsRequest(rollout_ids=[rollout.rollout_id for rollout in rollouts]))
    told = await asyncio.gather(*(worker.lost() for worker in workers))
    assert [attempt_id for attempt_id, *_ in told] == [held.attempt.attempt_id for held in answer.assignments]
    assert set(await asyncio.gather(*(worker.ended() for worker in workers))) == {grpc.StatusCode.OK}


async def test_a_server_that_goes_says_so_and_waits_for_the_worker(start: Callable[[], Awaitable[Any]]) -> None:
    server = await start()
    await server.enqueue()
    async with grpc.aio.insecure_channel(server.address) as channel:
        worker = Worker(StoreServiceStub(channel), credits=5)
        await worker.open()
        assignment = await worker.assigned()
        stopping = asyncio.create_task(start())
        assert (await worker.hear("go_away")).go_away.reconnect_after.seconds == 1
        assert not stopping.done()
        assert await worker.ended() is grpc.StatusCode.OK
    server = await stopping
    async with streaming(server, held=[ref(assignment)]) as worker:
        assert await worker.holds(assignment)
        await cancel(server, assignment)
        assert (await worker.lost())[0] == assignment.attempt.attempt_id


async def test_a_server_that_goes_waits_for_nobody_for_ever(start: Callable[[], Awaitable[Any]]) -> None:
    server = await start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        worker = Worker(StoreServiceStub(channel))
        await worker.open()
        async with asyncio.timeout(BOUND):
            await start()
        await worker.hear("go_away")
        with pytest.raises(grpc.aio.AioRpcError) as end:
            await worker.call.read()
        assert end.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_worker_that_has_not_said_a_word_does_not_keep_a_server_from_going(
    start: Callable[[], Awaitable[Any]],
) -> None:
    server = await start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        worker = Worker(StoreServiceStub(channel))
        await worker.call.wait_for_connection()
        async with asyncio.timeout(BOUND):
            await start()


# What cannot be said

Say = pb.StreamDequeueRequest
Open = Say.Open


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "open"),
        ([Say()], "open"),
        ([Say(add_credits=1)], "open"),
        ([Say(open=Open(credits=-1))], "open.credits"),
        ([Say(open=Open(credits=1_000_000))], "open.credits"),
        ([Say(open=Open(lease_duration=Duration(seconds=-1)))], "open.lease_duration"),
        ([Say(open=Open(lease_duration=Duration(seconds=7200)))], "open.lease_duration"),
        ([Say(open=Open(held=[pb.AttemptRef(attempt_id="at")]))], "open.held[0].rollout_id"),
        ([Say(open=Open()), Say(open=Open())], "open"),
        ([Say(open=Open()), Say()], "message"),
        ([Say(open=Open()), Say(add_credits=0)], "add_credits"),
        ([Say(open=Open()), Say(add_credits=-1)], "add_credits"),
        ([Say(open=Open(credits=600)), Say(add_credits=600)], "add_credits"),
        ([Say(open=Open()), Say(hold=pb.AttemptRef(rollout_id="ro"))], "hold.attempt_id"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_field(server: Any, messages: list[Any], field: str) -> None:
    call = server.stub.StreamDequeue(iter(messages))
    async with asyncio.timeout(BOUND):
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            async for message in call:
                assert message.HasField("opened")
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    [raw] = [value for key, value in refusal.value.trailing_metadata() or () if key == "grpc-status-details-bin"]
    [info, violations] = status_pb2.Status.FromString(raw).details
    reason, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert info.Unpack(reason)
    assert violations.Unpack(request)
    assert reason.reason == "FIELD_INVALID"
    assert [violation.field for violation in request.field_violations] == [field]


async def test_too_many_held_at_the_opening_are_refused(server: Any) -> None:
    held = [pb.AttemptRef(rollout_id="ro", attempt_id=f"at-{number}") for number in range(1001)]
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await Worker(server.stub, held=held).open()
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
