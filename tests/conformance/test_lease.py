"""What a runner owes for the lease it has, and what it does once it has it no more."""

from typing import Any

import pytest
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.attempt_pb2 import ATTEMPT_STATUS_TIMEOUT
from agentlightning.v1.rollout_pb2 import ROLLOUT_STATUS_CANCELLED, ROLLOUT_STATUS_FAILED, ROLLOUT_STATUS_SUCCEEDED

from tests.conformance import faults, record
from tests.conformance.stage import LEASE, Stage, Work

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def begun(stage: Stage, **task: Any) -> tuple[Work, str]:
    """A rollout whose agent waits, and its attempt."""
    work = await stage.give(waits=True, **task)
    await stage.hears(work, "began")
    return work, stage.assigned(work)


async def abandoned(stage: Stage, work: Work, attempt_id: str) -> None:
    """Check that an attempt that was lost is left alone: its agent stops, and nothing is said of how it ended."""
    await stage.until(
        f"the agent of {attempt_id}, which the runner has lost, was stopped", lambda: "stopped" in work.lines
    )
    await stage.goes_on()
    lost = record.told_lost(stage.record, attempt_id)
    for said, completion in stage.completed(work):
        if completion.attempt_id == attempt_id:
            since = (
                f"{said.at - lost.at:.3f} s after {lost.method} said that it was lost" if lost else "though it was lost"
            )
            stage.fail(f"it completed {attempt_id} {since}")


async def test_slow_work_is_kept_by_heartbeats_as_often_as_its_assignment_says(stage: Stage) -> None:
    work, attempt_id = await begun(stage)
    given, _ = record.assignments(stage.record, work.rollout_id)[0]

    def outlived_its_lease() -> bool:
        handed_out = record.assignments(stage.record, work.rollout_id)
        stage.demand(len(handed_out) == 1, f"{attempt_id} was not renewed in time: the rollout was handed out again")
        beats = record.heartbeats(stage.record, attempt_id)
        return bool(beats) and beats[-1].at - given.at > 1.2 * LEASE

    await stage.until(f"a heartbeat named {attempt_id} after its first lease of {LEASE:g} s", outlived_its_lease)
    work.let_go_on()
    rollout = await stage.ended(work)
    stage.demand(rollout.status == ROLLOUT_STATUS_SUCCEEDED, f"the rollout is not succeeded: {rollout}")
    stage.demand(rollout.redelivery_count == 0, "the lease ended meanwhile, and the rollout was delivered again")


async def test_an_attempt_that_is_cancelled_is_stopped_and_not_reported(stage: Stage) -> None:
    work, attempt_id = await begun(stage)
    await stage.cancel(work)
    await abandoned(stage, work, attempt_id)
    rollout = await stage.rollout(work)
    stage.demand(rollout.status == ROLLOUT_STATUS_CANCELLED, f"the rollout is not cancelled: {rollout}")


async def test_an_attempt_that_is_superseded_is_stopped_and_not_reported(stage: Stage) -> None:
    work, attempt_id = await begun(stage)
    answer = await stage.stub.StartAttempt(pb.StartAttemptRequest(rollout_id=work.rollout_id))
    await abandoned(stage, work, attempt_id)
    other = answer.assignment.attempt.attempt_id
    await stage.stub.CompleteAttempt(
        pb.CompleteAttemptRequest(
            rollout_id=work.rollout_id, attempt_id=other, succeeded=pb.CompleteAttemptRequest.Succeeded()
        )
    )
    rollout = await stage.rollout(work)
    stage.demand(rollout.latest_attempt.attempt_id == other, f"{other} is not the latest attempt any more: {rollout}")


async def test_an_attempt_that_a_heartbeat_says_is_not_held_is_stopped_and_not_reported(stage: Stage) -> None:
    work, attempt_id = await begun(stage)
    with stage.proxy.answering(faults.not_held(attempt_id)):
        await abandoned(stage, work, attempt_id)
        await stage.hears(work, "began", times=2)
    work.let_go_on()
    rollout = await stage.ended(work)
    stage.demand(rollout.status == ROLLOUT_STATUS_SUCCEEDED, f"once redelivered, it is not succeeded: {rollout}")


async def test_a_completion_that_is_refused_is_not_made_again(stage: Stage) -> None:
    work, attempt_id = await begun(stage, reward=1)
    with stage.proxy.answering(faults.never_tells):
        await stage.cancel(work)
        work.let_go_on()
        await stage.until(f"{attempt_id} was completed", lambda: stage.completed(work))
        await stage.goes_on()
    times = len(stage.completed(work))
    stage.demand(times == 1, f"{attempt_id} was completed {times} times, though the store said that it had ended")


async def test_an_attempt_that_runs_for_longer_than_its_timeout_is_stopped(stage: Stage) -> None:
    work, attempt_id = await begun(stage, config={"timeout": {"seconds": 1}})
    rollout = await stage.ended(work)
    stage.demand(rollout.status == ROLLOUT_STATUS_FAILED, f"the rollout is not failed: {rollout}")
    status = rollout.latest_attempt.status
    stage.demand(status == ATTEMPT_STATUS_TIMEOUT, f"{attempt_id} is not one that timed out: {rollout.latest_attempt}")
    await stage.hears(work, "stopped")
    await stage.goes_on()
