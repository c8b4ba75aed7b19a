"""What a runner does when answers are lost or come twice: everything is done once."""

import pytest
from agentlightning.v1.rollout_pb2 import ROLLOUT_STATUS_SUCCEEDED

from tests.conformance import faults, record
from tests.conformance.faults import CLAIMS, assignments_of
from tests.conformance.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="session")

COMPLETIONS = ("CompleteAttempt", "CompleteAttempts")
SPANS = ("AddSpans", "Export")


async def test_a_claim_whose_answer_was_lost_is_made_again_with_its_request_id(stage: Stage) -> None:
    with stage.proxy.answering(faults.lose_one(CLAIMS, assignments_of)):
        work = await stage.give(reward=1)
        rollout = await stage.ended(work)
    lost, *_ = [said for said in stage.record if not said.has_arrived and said.message is not None]
    stage.demand(work.lines.count("began") == 1, f"the agent was not run once: {work.lines}")
    if lost.method == "DequeueRollouts":
        (_, again), *_ = [
            (said, found) for said, found in record.assignments(stage.record, work.rollout_id) if said is not lost
        ]
        stage.demand(
            rollout.attempt_count == 1,
            f"the answer that handed out {rollout.rollout_id} was lost; the claim was not made again with the same "
            f"request_id, so that it took another attempt ({again.attempt.attempt_id}) and a lease that ran out",
        )
    await stage.goes_on()


async def test_a_completion_whose_answer_was_lost_is_made_again_as_it_was(stage: Stage) -> None:
    with stage.proxy.answering(faults.lose_one(COMPLETIONS)):
        work = await stage.give(steps=2, reward=1)
        await stage.ended(work)
        await stage.until("the completion was made again", lambda: len(stage.completed(work)) > 1)
    outcomes = {completion.WhichOneof("outcome") for _, completion in stage.completed(work)}
    stage.demand(outcomes == {"succeeded"}, f"the agent succeeded; the completions said {sorted(map(str, outcomes))}")
    names = [span.name for span in await stage.spans(work)]
    stage.demand(names.count("step-1") == 1, f"the agent made one span step-1, the store has {names}")
    await stage.goes_on()


async def test_spans_whose_answer_was_lost_are_there_once(stage: Stage) -> None:
    with stage.proxy.answering(faults.lose_one((*SPANS, *COMPLETIONS))):
        work = await stage.give(steps=3)
        rollout = await stage.ended(work)
    names = [span.name for span in await stage.spans(work)]
    stage.demand(rollout.status == ROLLOUT_STATUS_SUCCEEDED, f"the rollout is not succeeded: {rollout}")
    for step in (f"step-{number}" for number in range(3)):
        stage.demand(names.count(step) == 1, f"the agent made one span {step}, the store has {names}")


async def test_an_assignment_that_comes_twice_is_run_once(stage: Stage) -> None:
    with stage.proxy.answering(faults.twice):
        work = await stage.give(waits=True)
        await stage.hears(work, "began")
    _, assignment = record.assignments(stage.record, work.rollout_id)[0]
    with stage.proxy.answering(faults.again(assignment)):
        await stage.goes_on_in_one_slot()
    work.let_go_on()
    await stage.ended(work)
    await stage.goes_on()
    stage.demand(work.lines.count("began") == 1, f"one attempt was delivered twice, and the agent wrote {work.lines}")
    attempts = await stage.attempts(work)
    stage.demand(len(attempts) == 1, f"one attempt was delivered twice, and now there are {len(attempts)}")
