"""Whose attempt it is no longer: noted as it is taken, not when its worker gives it up, nor while it may come back."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from agentlightning.v1.attempt_pb2 import Attempt, Failure, FailureKind
from agentlightning.v1.attempt_pb2 import AttemptStatus as ProtoAttemptStatus
from agentlightning.v1.rollout_pb2 import Assignment, Rollout, RolloutConfig
from agentlightning.v1.span_pb2 import Span
from agentlightning.v1.store_service_pb2 import AttemptRef, CompleteAttemptRequest, UpdateAttemptRequest
from agentlightning_server.clock import SECOND
from agentlightning_server.lifecycle.states import AttemptStatus, RolloutStatus
from agentlightning_server.storage import attempts, rollouts
from agentlightning_server.storage.database import Database
from agentlightning_server.storage.transaction import LostAttempt, Notices, Transaction
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

Operation = Callable[[Transaction], Any]


class Held:
    """A store with one attempt that a worker holds, and all the notices since."""

    def __init__(self, database: Database, clock: Any, notices: Notices) -> None:
        self.database = database
        self.clock = clock
        self._notices = notices
        self.ref = AttemptRef()

    async def take(self, **config: Any) -> None:
        new = Rollout(input_json="1", config=RolloutConfig(**config))

        def take(tx: Transaction) -> Assignment:
            rollouts.enqueue(tx, [new])
            return rollouts.claim(tx, "default", ["w"], 1, 60 * SECOND)[0]

        attempt = (await self.database.write(take)).attempt
        self.ref = AttemptRef(rollout_id=attempt.rollout_id, attempt_id=attempt.attempt_id)

    async def let(self, *operations: Operation) -> None:
        for operation in operations:
            await self.database.write(operation)

    async def expire(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.let(lambda tx: attempts.expire(tx, self.ref.rollout_id, self.ref.attempt_id))

    async def complete(self, kind: "FailureKind.ValueType | None" = None) -> None:
        request = CompleteAttemptRequest(rollout_id=self.ref.rollout_id, attempt_id=self.ref.attempt_id)
        if kind is None:
            request.succeeded.SetInParent()
        else:
            request.failure.CopyFrom(Failure(kind=kind))
        await self.let(lambda tx: attempts.complete(tx, request))

    async def update(self, status: "ProtoAttemptStatus.ValueType") -> None:
        attempt = Attempt(rollout_id=self.ref.rollout_id, attempt_id=self.ref.attempt_id, status=status)
        request = UpdateAttemptRequest(attempt=attempt, update_mask=FieldMask(paths=["status"]))
        await self.let(lambda tx: attempts.update(tx, request))

    async def cancel(self) -> None:
        await self.let(lambda tx: attempts.cancel(tx, self.ref.rollout_id))

    async def start_another(self) -> None:
        await self.let(lambda tx: attempts.start(tx, self.ref.rollout_id, "another", None))

    async def heartbeat(self) -> None:
        await self.let(lambda tx: attempts.heartbeat(tx, self.ref))

    async def lost(self) -> list[tuple[AttemptStatus | None, bool]]:
        """The status of each loss that was noted, and whether the attempt was superseded."""
        assert {lost.attempt_id for lost in self._notices.lost} <= {self.ref.attempt_id}
        if not self.given_up:  # what is looked up says the same as what was noted
            assert await self._lost_now() == self._notices.lost[-1:]
        return [(lost.status, lost.superseded) for lost in self._notices.lost]

    @property
    def given_up(self) -> list[str]:
        return self._notices.given_up

    async def _lost_now(self) -> list[LostAttempt]:
        return await self.database.read(lambda tx: attempts.lost_of(tx, [self.ref]))


@pytest.fixture
async def held(tmp_path: Path, clock: Callable[[], int]) -> AsyncIterator[Held]:
    notices = Notices()
    async with Database(tmp_path / "store.db", clock, notices.add) as database:
        yield Held(database, clock, notices)


async def test_a_cancelled_attempt_is_lost(held: Held) -> None:
    await held.take()
    await held.cancel()
    assert await held.lost() == [(AttemptStatus.CANCELLED, False)]


async def test_an_attempt_is_lost_once(held: Held) -> None:
    await held.take()
    await held.cancel()
    await held.cancel()
    assert len(await held.lost()) == 1


async def test_an_attempt_out_of_time_is_lost(held: Held) -> None:
    await held.take(timeout=Duration(seconds=5))
    await held.expire(5)
    assert await held.lost() == [(AttemptStatus.TIMEOUT, False)]


async def test_a_silent_attempt_that_is_not_tried_again_is_lost(held: Held) -> None:
    await held.take(unresponsive_timeout=Duration(seconds=5))
    await held.expire(5)
    assert await held.lost() == [(AttemptStatus.UNRESPONSIVE, False)]


async def test_a_silent_attempt_that_may_come_back_is_not_lost_yet(held: Held) -> None:
    retry = [ProtoAttemptStatus.ATTEMPT_STATUS_UNRESPONSIVE]
    await held.take(unresponsive_timeout=Duration(seconds=5), max_attempts=2, retry_condition=retry)
    await held.expire(5)
    assert await held.lost() == []
    await held.heartbeat()
    await held.cancel()
    assert await held.lost() == [(AttemptStatus.CANCELLED, False)]


async def test_an_attempt_whose_lease_ran_out_is_not_lost_yet(held: Held) -> None:
    await held.take()
    await held.expire(60)
    assert await held.lost() == []
    await held.let(lambda tx: attempts.add_spans(tx, [_span(held.ref)]))
    await held.cancel()
    assert await held.lost() == [(AttemptStatus.CANCELLED, False)]


async def test_an_attempt_whose_lease_ran_out_is_lost_once_another_has_the_work(held: Held) -> None:
    await held.take()
    await held.expire(60)
    await held.let(lambda tx: rollouts.claim(tx, "default", ["another"], 1, 60 * SECOND))
    assert await held.lost() == [(AttemptStatus.UNRESPONSIVE, True)]


async def test_an_attempt_whose_lease_ran_out_is_lost_once_its_rollout_is_cancelled(held: Held) -> None:
    await held.take()
    await held.expire(60)
    await held.cancel()
    assert await held.lost() == [(AttemptStatus.UNRESPONSIVE, False)]


async def test_an_attempt_whose_lease_ran_out_once_too_often_is_lost(held: Held) -> None:
    await held.take(max_redeliveries=0)
    await held.expire(60)
    assert await held.lost() == [(AttemptStatus.UNRESPONSIVE, False)]


async def test_a_superseded_attempt_is_lost(held: Held) -> None:
    await held.take()
    await held.start_another()
    assert await held.lost() == [(AttemptStatus.CANCELLED, True)]


@pytest.mark.parametrize("status", [RolloutStatus.SUCCEEDED, RolloutStatus.FAILED, RolloutStatus.REQUEUING])
async def test_an_attempt_whose_rollout_is_set_to_another_status_is_lost(held: Held, status: RolloutStatus) -> None:
    await held.take()
    await held.let(lambda tx: attempts.set_rollout_status(tx, held.ref.rollout_id, status))
    assert await held.lost() == [(AttemptStatus.CANCELLED, False)]


async def test_an_attempt_whose_rollout_is_set_to_running_is_not_lost(held: Held) -> None:
    await held.take()
    await held.let(lambda tx: attempts.set_rollout_status(tx, held.ref.rollout_id, RolloutStatus.RUNNING))
    assert await held.lost() == []


async def test_an_attempt_that_is_said_to_have_ended_is_lost(held: Held) -> None:
    await held.take()
    await held.update(ProtoAttemptStatus.ATTEMPT_STATUS_FAILED)
    assert await held.lost() == [(AttemptStatus.FAILED, False)]


async def test_an_attempt_that_is_said_to_run_is_not_lost(held: Held) -> None:
    await held.take()
    await held.update(ProtoAttemptStatus.ATTEMPT_STATUS_RUNNING)
    assert await held.lost() == []


@pytest.mark.parametrize("kind", [None, *FailureKind.values()[1:]])
async def test_what_the_worker_completed_is_given_up(held: Held, kind: Any) -> None:
    await held.take()
    await held.complete(kind)
    await held.cancel()
    await held.start_another()
    assert (await held.lost(), held.given_up) == ([], [held.ref.attempt_id])


async def test_what_the_worker_completed_after_its_lease_is_given_up(held: Held) -> None:
    await held.take()
    await held.expire(60)
    await held.complete()
    assert (await held.lost(), held.given_up) == ([], [held.ref.attempt_id])


async def test_what_the_worker_released_is_given_up(held: Held) -> None:
    await held.take()
    await held.let(lambda tx: attempts.release(tx, held.ref))
    await held.start_another()
    assert (await held.lost(), held.given_up) == ([], [held.ref.attempt_id])


def _span(ref: AttemptRef) -> Span:
    ids = {"rollout_id": ref.rollout_id, "attempt_id": ref.attempt_id}
    return Span(**ids, trace_id="1" * 32, span_id="1" * 16, name="work")
