"""What a runner does while the store is away: it works on, and comes back to it."""

import pytest
from agentlightning.v1.rollout_pb2 import ROLLOUT_STATUS_SUCCEEDED

from tests.conformance import record
from tests.conformance.stage import LONG_LEASE, Stage, Work

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def done_once(stage: Stage, work: Work) -> None:
    rollout = await stage.ended(work)
    stage.demand(rollout.status == ROLLOUT_STATUS_SUCCEEDED, f"the rollout is not succeeded: {rollout}")
    stage.demand(rollout.attempt_count == 1, f"it was begun {rollout.attempt_count} times: {work.lines}")
    stage.demand(rollout.latest_attempt.final_reward == 1, f"the reward was lost: {rollout}")


async def test_work_goes_on_while_a_store_that_was_killed_is_away_and_is_reported_once_it_is_back(stage: Stage) -> None:
    during = await stage.give(waits=True, config=LONG_LEASE, reward=1)
    after = await stage.give(waits=True, config=LONG_LEASE, steps=2, reward=1)
    for work in (during, after):
        await stage.hears(work, "began")
    await stage.kill_store()
    during.let_go_on()
    await stage.hears(during, "ended")
    await stage.bring_store_back()
    after.let_go_on()
    for work in (during, after):
        await done_once(stage, work)
    names = [span.name for span in await stage.spans(after) if "step" in span.name]
    stage.demand(sorted(names) == ["step-0", "step-1"], f"the agent made step-0 and step-1; the store has {names}")
    await stage.goes_on()


async def test_a_store_that_says_it_goes_is_left_and_found_again(stage: Stage) -> None:
    work = await stage.give(waits=True, config=LONG_LEASE, reward=1)
    await stage.hears(work, "began")
    await stage.stop_store()
    unheeded = record.unheeded_farewells(stage.record)
    stage.demand(not unheeded, "the store said go_away on StreamDequeue, and the runner did not half-close it")
    await stage.start_store()
    await stage.goes_on_in_one_slot()
    work.let_go_on()
    await done_once(stage, work)
    await stage.goes_on()


async def test_a_store_that_is_not_there_yet_is_waited_for(stage: Stage) -> None:
    await stage.kill_runner()
    async with stage.without_store() as tried:
        await stage.start_runner()
        await stage.until("the runner had tried to connect again", lambda: tried() > 1)
    await stage.goes_on()
