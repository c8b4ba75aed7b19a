"""What a runner does when it is told to end."""

import signal

import pytest
from agentlightning.v1.attempt_pb2 import FAILURE_KIND_INFRASTRUCTURE
from agentlightning.v1.rollout_pb2 import (
    ROLLOUT_STATUS_PREPARING,
    ROLLOUT_STATUS_RUNNING,
    ROLLOUT_STATUS_SUCCEEDED,
)

from tests.conformance import record
from tests.conformance.stage import Stage, Work

pytestmark = pytest.mark.asyncio(loop_scope="session")

LEASED = (ROLLOUT_STATUS_PREPARING, ROLLOUT_STATUS_RUNNING)


async def told_to_end(stage: Stage) -> Work:
    """A rollout that runs, of a runner that has had SIGTERM and the time of two heartbeats to take notice."""
    work = await stage.give(waits=True, reward=1)
    await stage.hears(work, "began")
    attempt_id = stage.assigned(work)
    stage.signal_runner(signal.SIGTERM)
    before = len(record.heartbeats(stage.record, attempt_id))
    await stage.until(
        f"{attempt_id} was renewed after SIGTERM, while it was finished",
        lambda: len(record.heartbeats(stage.record, attempt_id)) >= before + 2,
    )
    return work


async def test_sigterm_finishes_what_runs_takes_no_more_and_leaves_nothing_leased(stage: Stage) -> None:
    work = await told_to_end(stage)
    later = await stage.give()
    work.let_go_on()
    code = await stage.exit_code(lambda: later.lines and "the agent was begun after SIGTERM")
    finished, left = await stage.rollout(work), await stage.rollout(later)
    await stage.cancel(later)
    stage.demand(finished.status == ROLLOUT_STATUS_SUCCEEDED, f"what ran was not finished: {finished}")
    stage.demand(not later.lines, f"the agent was begun after SIGTERM: {later.lines}")
    stage.demand(left.status not in LEASED, f"the runner has ended and left this leased: {left}")
    stage.demand(code == 0, f"it finished what ran, and ended with exit code {code} instead of 0")


async def test_a_second_sigterm_gives_up_what_runs_as_a_failure_of_the_infrastructure(stage: Stage) -> None:
    work = await told_to_end(stage)
    stage.signal_runner(signal.SIGTERM)
    code = await stage.exit_code()
    attempt, *later = await stage.attempts(work)
    await stage.cancel(work)
    failure = attempt.failure
    stage.demand(
        not later, f"it took the rollout again that it had given up, as it had not said that it drains: {later}"
    )
    stage.demand(failure.kind == FAILURE_KIND_INFRASTRUCTURE, f"what ran was not given up as INFRASTRUCTURE: {attempt}")
    stage.demand(failure.type == "RunnerStopped", f"the failure's type is {failure.type!r}, not RunnerStopped")
    stage.demand(code == 143, f"it ended with exit code {code} instead of 143")


async def test_sigterm_ends_a_runner_that_waits_for_work(stage: Stage) -> None:
    await stage.goes_on()
    code = await stage.end_runner()
    left = await stage.give()
    rollout = await stage.rollout(left)
    await stage.cancel(left)
    stage.demand(code == 0, f"it had nothing to finish, and ended with exit code {code} instead of 0")
    stage.demand(rollout.status not in LEASED, f"the runner has ended, and is given this: {rollout}")


async def test_it_ends_after_as_many_rollouts_as_it_is_to_run(stage: Stage) -> None:
    await stage.kill_runner()
    first, second, third = [await stage.give() for _ in range(3)]
    await stage.start_runner(MAX_ROLLOUTS="2")
    code = await stage.exit_code()
    left = await stage.rollout(third)
    await stage.cancel(third)
    stage.demand(code == 0, f"it ran as many rollouts as it was to, and ended with exit code {code} instead of 0")
    begun = [work.lines.count("began") for work in (first, second, third)]
    stage.demand(begun == [1, 1, 0], f"AGL_MAX_ROLLOUTS is 2; three rollouts were begun so many times: {begun}")
    stage.demand(left.status not in LEASED, f"the runner has ended and left this leased: {left}")
