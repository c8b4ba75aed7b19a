"""What a client holds: renewed until it is given up, and told to be lost within a moment, whatever the network does."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import agentlightning as agl
import grpc
import pytest
from agentlightning.store import leases, losses
from agentlightning.store.connection import run
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.attempt_pb2 import Attempt
from agentlightning.v1.attempt_pb2 import AttemptStatus as ProtoAttemptStatus
from agentlightning.v1.rollout_pb2 import Assignment, Rollout
from agentlightning.v1.store_service_pb2_grpc import StoreServiceServicer, add_StoreServiceServicer_to_server
from google.protobuf.duration_pb2 import Duration

BOUND = 10
"""Seconds: less than the 20 after which a heartbeat would tell as well."""


class Losing:
    """Hears what was lost."""

    def __init__(self) -> None:
        self.told: list[str | None] = []
        self._told = threading.Event()

    def __call__(self, status: str | None) -> None:
        self.told.append(status)
        self._told.set()

    async def lost(self) -> str | None:
        assert await asyncio.to_thread(self._told.wait, BOUND)
        return self.told[0]


async def claim(store: agl.LightningStoreClient, on_lost: Any = None) -> agl.AttemptedRollout:
    await store.enqueue_rollout("task")
    claimed = await store.dequeue_rollout(on_lost=on_lost)
    assert claimed is not None
    return claimed


# A real store


async def test_a_cancelled_attempt_is_lost_at_once(store: agl.LightningStoreClient) -> None:
    losing = Losing()
    claimed = await claim(store, losing)
    await store.cancel_rollouts([claimed.rollout_id])
    assert await losing.lost() == "cancelled"


async def test_a_superseded_attempt_is_lost_at_once(store: agl.LightningStoreClient) -> None:
    losing = Losing()
    claimed = await claim(store, losing)
    await store.start_attempt(claimed.rollout_id)
    assert await losing.lost() == "cancelled"


async def test_an_attempt_claimed_while_the_stream_is_open_is_lost_at_once(store: agl.LightningStoreClient) -> None:
    first, second = Losing(), Losing()
    claimed = await claim(store, first)
    await store.cancel_rollouts([claimed.rollout_id])
    await first.lost()
    claimed = await claim(store, second)
    await store.cancel_rollouts([claimed.rollout_id])
    assert await second.lost() == "cancelled"


async def test_what_its_holder_ended_is_not_lost(store: agl.LightningStoreClient) -> None:
    completing, updating, cancelling = Losing(), Losing(), Losing()
    completed, updated, cancelled = [await claim(store, losing) for losing in (completing, updating, cancelling)]
    await store.cancel_rollouts([cancelled.rollout_id])
    await cancelling.lost()  # so that the store has been told of all three
    await store.complete_attempt(completed.rollout_id, completed.attempt.attempt_id)
    await store.update_attempt(updated.rollout_id, updated.attempt.attempt_id, status="succeeded")
    cancelling = Losing()
    cancelled = await claim(store, cancelling)
    await store.cancel_rollouts([cancelled.rollout_id])
    await cancelling.lost()
    assert completing.told == updating.told == []


async def test_what_was_released_is_the_next_ones_and_costs_no_attempt(store: agl.LightningStoreClient) -> None:
    claimed = await claim(store)
    await store.release_attempts([claimed])
    again = await store.dequeue_rollout()
    assert again is not None
    assert again.rollout_id == claimed.rollout_id
    await store.complete_attempt(again.rollout_id, again.attempt.attempt_id)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_an_agent_may_fork_while_its_attempt_is_held(store: agl.LightningStoreClient) -> None:
    losing = Losing()
    await claim(store)
    claimed = await claim(store, losing)
    await store.cancel_rollouts([claimed.rollout_id])
    await losing.lost()  # so that the stream is open
    for _ in range(10):
        child = os.fork()
        if child == 0:  # nothing of pytest may run here
            os._exit(0)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == 0


# A claim whose caller goes away


class Claiming:
    """Claims something on the gRPC thread, once it may, and hears whether that was undone."""

    def __init__(self) -> None:
        self.begun, self.may_end, self.told, self._undone = [threading.Event() for _ in range(4)]

    async def claim(self) -> str:
        self.begun.set()
        assert self.may_end.wait(BOUND)
        self._tell_later(5)
        return "claimed"

    async def undo(self, result: str) -> None:
        assert result == "claimed"
        self._undone.set()

    async def undone(self) -> bool:
        return await asyncio.to_thread(self._undone.wait, BOUND)

    def _tell_later(self, turns: int) -> None:
        """Tell when the loop has turned so often that the result is on its way."""
        if turns:
            asyncio.get_running_loop().call_soon(self._tell_later, turns - 1)
        else:
            self.told.set()


async def test_what_was_done_for_a_caller_who_was_just_cancelled_is_undone() -> None:
    """Its result is on the way from one thread to the other, and nobody will take it."""
    claiming = Claiming()
    caller = asyncio.create_task(run(claiming.claim(), undo=claiming.undo))
    assert await asyncio.to_thread(claiming.begun.wait, BOUND)
    caller.cancel()
    await asyncio.wait([caller])
    claiming.may_end.set()
    assert caller.cancelled()
    assert await claiming.undone()


async def test_what_was_done_for_a_caller_who_is_cancelled_before_it_takes_the_answer_is_undone() -> None:
    claiming = Claiming()
    caller = asyncio.create_task(run(claiming.claim(), undo=claiming.undo))
    assert await asyncio.to_thread(claiming.begun.wait, BOUND)
    claiming.may_end.set()
    assert claiming.told.wait(BOUND)  # the answer is in this loop, which has had no turn to look at it
    asyncio.get_running_loop().call_soon(caller.cancel)
    await asyncio.wait([caller])
    assert caller.cancelled()
    assert await claiming.undone()


async def test_what_was_done_for_a_caller_whose_loop_is_closed_is_undone() -> None:
    claiming = Claiming()

    def call_and_leave() -> None:
        loop = asyncio.new_event_loop()
        caller = loop.create_task(run(claiming.claim(), undo=claiming.undo))
        caller._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.run_until_complete(asyncio.to_thread(claiming.begun.wait, BOUND))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    await asyncio.to_thread(call_and_leave)
    claiming.may_end.set()
    assert await claiming.undone()


async def test_what_was_taken_is_not_undone() -> None:
    claiming = Claiming()
    claiming.may_end.set()
    assert await run(claiming.claim(), undo=claiming.undo) == "claimed"
    await run(asyncio.sleep(0))
    assert not claiming._undone.is_set()


# A store that does what the test says


class Scripted(StoreServiceServicer):
    """A store with any number of rollouts, that records what it is told and tells what the test has it tell."""

    def __init__(self) -> None:
        self.interval = Duration(seconds=20)
        self.opened = 0
        self.refused: asyncio.Queue[None] = asyncio.Queue()
        self.refusal: grpc.StatusCode | None = None
        self.heard: asyncio.Queue[Any] = asyncio.Queue()
        self.renewed: asyncio.Queue[list[str]] = asyncio.Queue()
        self.to_say: asyncio.Queue[pb.StreamDequeueResponse | grpc.StatusCode | None] = asyncio.Queue()
        self.completing = asyncio.Event()
        self.may_complete = asyncio.Event()
        self._count = 0

    async def DequeueRollouts(self, request: Any, context: Any) -> Any:
        numbers = range(self._count, self._count + (request.max_rollouts or len(request.worker_ids)))
        self._count = numbers.stop
        return pb.DequeueRolloutsResponse(
            assignments=[
                Assignment(
                    rollout=Rollout(rollout_id=f"ro-{number}", input_json="1", status=2),  # type: ignore[arg-type]
                    attempt=Attempt(rollout_id=f"ro-{number}", attempt_id=f"at-{number}", status=1),  # type: ignore[arg-type]
                    heartbeat_interval=self.interval,
                )
                for number in numbers
            ]
        )

    async def HeartbeatAttempts(self, request: Any, context: Any) -> Any:
        ids = [ref.attempt_id for ref in request.attempts]
        self.renewed.put_nowait(ids)
        return pb.HeartbeatAttemptsResponse(
            results=[pb.HeartbeatAttemptsResponse.Result(attempt_id=attempt_id, held=True) for attempt_id in ids]
        )

    async def CompleteAttempts(self, request: Any, context: Any) -> Any:
        self.completing.set()
        await self.may_complete.wait()
        ended = [Rollout(rollout_id=one.rollout_id, input_json="1", status=5) for one in request.attempts]  # type: ignore[arg-type]
        results = [pb.CompleteAttemptsResponse.Result(rollout=rollout) for rollout in ended]
        return pb.CompleteAttemptsResponse(results=results)

    async def StreamDequeue(self, requests: Any, context: Any) -> None:  # type: ignore[override]
        """Says what the test wants said; breaks at a status, and at None ends when the client does."""
        self.opened += 1
        if self.refusal is not None:
            await anext(aiter(requests))  # a client that cannot write is told that instead of why
            self.refused.put_nowait(None)
            await context.abort(self.refusal)
        hearing = asyncio.create_task(self._hear(requests))
        try:
            await context.write(pb.StreamDequeueResponse(opened=pb.StreamDequeueResponse.Opened()))
            while (message := await self.to_say.get()) is not None:
                if not isinstance(message, pb.StreamDequeueResponse):
                    await context.abort(message)
                await context.write(message)
            await hearing
        finally:
            hearing.cancel()

    async def _hear(self, requests: Any) -> None:
        async for request in requests:
            match request.WhichOneof("message"):
                case "open":
                    self.heard.put_nowait([ref.attempt_id for ref in request.open.held])
                case "hold":
                    self.heard.put_nowait(request.hold.attempt_id)
        self.heard.put_nowait("half-closed")

    def lose(self, number: int) -> None:
        ref = pb.AttemptRef(rollout_id=f"ro-{number}", attempt_id=f"at-{number}")
        cancelled = ProtoAttemptStatus.ATTEMPT_STATUS_CANCELLED
        self.to_say.put_nowait(
            pb.StreamDequeueResponse(lost=pb.StreamDequeueResponse.Lost(attempt=ref, status=cancelled))
        )


@pytest.fixture
async def scripted(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Scripted, agl.LightningStoreClient]]:
    monkeypatch.setattr(leases, "_MOMENT", 0.0)
    store, server = Scripted(), grpc.aio.server()
    add_StoreServiceServicer_to_server(store, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    client = agl.LightningStoreClient(f"127.0.0.1:{port}", retry_seconds=BOUND)
    yield store, client
    await client.close()
    store.may_complete.set()
    await server.stop(0)


Pair = tuple[Scripted, agl.LightningStoreClient]


async def test_the_store_is_told_what_is_held_when_a_stream_opens_and_later(scripted: Pair) -> None:
    store, client = scripted
    await client.dequeue_many_rollouts(limit=2)
    assert await store.heard.get() == ["at-0", "at-1"]
    await client.dequeue_rollout()
    assert await store.heard.get() == "at-2"


async def test_what_is_over_in_a_moment_is_not_worth_a_stream(scripted: Pair, monkeypatch: Any) -> None:
    monkeypatch.setattr(leases, "_MOMENT", 0.3)
    store, client = scripted
    store.may_complete.set()
    for _ in range(5):
        claimed = await client.dequeue_rollout()
        assert claimed is not None
        await client.complete_attempt(claimed.rollout_id, claimed.attempt.attempt_id)
    await client.dequeue_rollout()
    assert await store.heard.get() == ["at-5"]
    assert store.opened == 1


async def test_one_rollout_after_another_keeps_the_stream(scripted: Pair) -> None:
    store, client = scripted
    store.may_complete.set()
    for number in range(5):
        claimed = await client.dequeue_rollout()
        assert claimed is not None
        assert await store.heard.get() == ([f"at-{number}"] if number == 0 else f"at-{number}")
        await client.complete_attempt(claimed.rollout_id, claimed.attempt.attempt_id)
    assert store.opened == 1


async def test_a_stream_that_breaks_is_opened_again_with_what_is_held_then(scripted: Pair) -> None:
    store, client = scripted
    store.may_complete.set()
    claimed, _ = await client.dequeue_many_rollouts(limit=2)
    await store.heard.get()
    await client.complete_attempt(claimed.rollout_id, claimed.attempt.attempt_id)
    store.refusal = grpc.StatusCode.UNAVAILABLE
    store.to_say.put_nowait(grpc.StatusCode.INTERNAL)
    for _ in range(2):
        await store.refused.get()
    store.refusal = None
    assert await store.heard.get() == ["at-1"]


async def test_a_server_that_goes_is_half_closed_and_asked_again(scripted: Pair) -> None:
    store, client = scripted
    await client.dequeue_rollout()
    await store.heard.get()
    away = pb.StreamDequeueResponse.GoAway(reconnect_after=Duration(nanos=50_000_000))
    store.to_say.put_nowait(pb.StreamDequeueResponse(go_away=away))
    assert await store.heard.get() == "half-closed"
    store.to_say.put_nowait(None)
    assert await store.heard.get() == ["at-0"]


async def test_a_store_without_streams_is_not_asked_again_and_leases_are_renewed(scripted: Pair, caplog: Any) -> None:
    store, client = scripted
    store.refusal = grpc.StatusCode.UNIMPLEMENTED
    store.interval = Duration(nanos=50_000_000)
    await client.dequeue_rollout()
    for _ in range(3):
        assert await store.renewed.get() == ["at-0"]
    await client.dequeue_rollout()
    while await store.renewed.get() != ["at-0", "at-1"]:
        pass
    assert store.opened == 1
    assert [record for record in caplog.records if record.name.startswith("agentlightning")] == []


async def test_a_client_that_closes_ends_its_stream(scripted: Pair) -> None:
    store, client = scripted
    await client.dequeue_rollout()
    await store.heard.get()
    await client.close()
    assert await store.heard.get() == "half-closed"


async def test_a_client_that_holds_nothing_for_a_while_ends_its_stream(scripted: Pair, monkeypatch: Any) -> None:
    monkeypatch.setattr(losses, "_LINGER", 0.01)
    store, client = scripted
    store.may_complete.set()
    claimed = await client.dequeue_rollout()
    assert claimed is not None
    await store.heard.get()
    await client.complete_attempt(claimed.rollout_id, claimed.attempt.attempt_id)
    assert await store.heard.get() == "half-closed"
    store.to_say.put_nowait(None)
    await client.dequeue_rollout()
    assert await store.heard.get() == ["at-1"]


async def test_many_leases_are_renewed_a_thousand_at_a_time(scripted: Pair) -> None:
    store, client = scripted
    store.interval = Duration(nanos=300_000_000)
    for limit in (1000, 500):
        await client.dequeue_many_rollouts(limit=limit)
    assert len(await store.heard.get()) == 1000
    sizes = [len(await store.renewed.get())]
    while sizes[-1] != 500:
        sizes.append(len(await store.renewed.get()))
    assert sizes[-2:] == [1000, 500]


async def test_a_loss_that_is_told_while_the_attempt_is_being_completed_is_none(scripted: Pair) -> None:
    """The store may tell of the end before it answers who brought it about."""
    store, client = scripted
    losing, other = Losing(), Losing()
    claimed = await client.dequeue_rollout(on_lost=losing)
    await client.dequeue_rollout(on_lost=other)
    assert claimed is not None
    completing = asyncio.create_task(client.complete_attempt(claimed.rollout_id, claimed.attempt.attempt_id))
    await store.completing.wait()
    store.lose(0)
    store.lose(1)
    await other.lost()
    store.may_complete.set()
    await completing
    assert losing.told == []


async def test_no_task_is_left_of_streams_that_broke(scripted: Pair, tasks: Callable[[], Any]) -> None:
    store, client = scripted
    await client.dequeue_rollout()
    await store.heard.get()
    before = await tasks()
    breaks = 5
    for _ in range(breaks):
        store.to_say.put_nowait(grpc.StatusCode.INTERNAL)
        await store.heard.get()
    # One or two come and go with each call; one a break would stay.
    assert len(await tasks()) < len(before) + breaks


@pytest.fixture
def tasks() -> Callable[[], Any]:
    """The names of the tasks on the gRPC thread."""

    async def there() -> list[str]:
        return [task.get_name() for task in asyncio.all_tasks()]

    async def tasks() -> list[str]:
        return await run(there())

    return tasks
