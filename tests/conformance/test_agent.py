"""What a runner does with a rollout: gives it to the agent, and tells the store what became of it."""

from typing import Any

import pytest
from agentlightning.v1 import resources_pb2
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.attempt_pb2 import ATTEMPT_STATUS_FAILED, FAILURE_KIND_AGENT, FAILURE_KIND_INFRASTRUCTURE
from agentlightning.v1.rollout_pb2 import ROLLOUT_STATUS_FAILED, ROLLOUT_STATUS_SUCCEEDED

from tests.conformance import faults, record
from tests.conformance.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEMPLATE = 'Räume für {date}: {{"json"}} \\n'
REWARD = 0.9999999999999999
ONCE = {"max_redeliveries": 0}
TWICE = {"max_attempts": 2, "retry_condition": [ATTEMPT_STATUS_FAILED]}


async def resources(stage: Stage) -> str:
    """The id of resources with a prompt, which is another in their second version."""
    added = await stage.stub.AddResources(pb.AddResourcesRequest(resources=bundle(TEMPLATE)))
    resources_id = str(added.resources.resources_id)
    later = bundle("later", resources_id=resources_id)
    await stage.stub.UpdateResources(pb.UpdateResourcesRequest(resources=later))
    return resources_id


def bundle(template: str, **fields: Any) -> Any:
    prompt = resources_pb2.PromptTemplate(template=template, engine=resources_pb2.TEMPLATE_ENGINE_F_STRING)
    return resources_pb2.Resources(resources=[resources_pb2.Resource(name="prompt", prompt_template=prompt)], **fields)


async def test_a_rollout_reaches_the_agent_and_its_reward_and_spans_reach_the_store(stage: Stage) -> None:
    work = await stage.give(resources_id=await resources(stage), resources_version=1, steps=3, reward=REWARD)
    rollout = await stage.ended(work)
    await stage.hears(work, "ended")
    names = [span.name for span in await stage.spans(work)]
    stage.demand(rollout.status == ROLLOUT_STATUS_SUCCEEDED, f"the rollout is not succeeded: {rollout}")
    attempt = rollout.latest_attempt
    reward = attempt.final_reward if attempt.HasField("final_reward") else None
    stage.demand(reward == REWARD, f"the agent returned {REWARD!r}, the final reward is {reward!r}")
    stage.demand(
        work.lines == ["began", f"prompt {TEMPLATE}", "ended"], f"the agent did not do what its task says: {work.lines}"
    )
    for step in (f"step-{number}" for number in range(3)):
        times = names.count(step)
        stage.demand(times == 1, f"the agent made one span {step}, the store has {times} of its {len(names)} spans")


async def test_spans_are_there_when_the_rollout_is_seen_to_have_succeeded(stage: Stage) -> None:
    work = await stage.give(steps=100)
    await stage.ended(work)
    there = {span.name for span in await stage.spans(work)}
    missing = {f"step-{number}" for number in range(100)} - there
    stage.demand(not missing, f"the attempt was completed before the store had {sorted(missing)}")


async def test_an_agent_may_return_no_reward(stage: Stage) -> None:
    work = await stage.give()
    rollout = await stage.ended(work)
    stage.demand(rollout.status == ROLLOUT_STATUS_SUCCEEDED, f"the rollout is not succeeded: {rollout}")
    attempt = rollout.latest_attempt
    stage.demand(
        not attempt.HasField("final_reward"), f"the agent returned none, final_reward is {attempt.final_reward}"
    )


async def test_an_agent_that_fails_is_reported_with_what_it_said(stage: Stage) -> None:
    text = "no room für 'Änne' is free"
    work = await stage.give(steps=1, fail=text)
    rollout = await stage.ended(work)
    failure = rollout.latest_attempt.failure
    stage.demand(rollout.status == ROLLOUT_STATUS_FAILED, f"the agent failed, the rollout has not: {rollout}")
    stage.demand(failure.kind == FAILURE_KIND_AGENT, f"the agent failed, and the failure is not AGENT: {failure}")
    stage.demand(text in failure.message, f"the agent said {text!r}, the failure says {failure.message!r}")
    stage.demand(failure.type, "the failure has no type")
    names = [span.name for span in await stage.spans(work)]
    stage.demand(names.count("step-0") == 1, f"the spans of an agent that fails are to be kept; there are {names}")


async def test_the_spans_of_each_attempt_are_its_own(stage: Stage) -> None:
    retried = await stage.give(steps=2, fail="again", config=TWICE)
    beside = await stage.give(steps=1)
    await stage.ended(retried)
    await stage.ended(beside)
    attempts = [attempt.attempt_id for attempt in await stage.attempts(retried)]
    stage.demand(len(attempts) == 2, f"the agent failed and may be run twice; it was begun {len(attempts)} times")
    of_steps = sorted((span.attempt_id, span.name) for span in await stage.spans(retried) if "step" in span.name)
    wanted = sorted((attempt, step) for attempt in attempts for step in ("step-0", "step-1"))
    stage.demand(of_steps == wanted, f"each of {attempts} made step-0 and step-1, the store has {of_steps}")
    names = [span.name for span in await stage.spans(beside) if "step" in span.name]
    stage.demand(names == ["step-0"], f"the rollout beside it made step-0, the store has {names}")


async def test_two_rollouts_run_at_once_and_no_third(stage: Stage) -> None:
    first, second, third = [await stage.give(waits=True) for _ in range(3)]
    for work in (first, second):
        await stage.hears(work, "began")
    first.let_go_on()
    await stage.hears(third, "began")
    for work in (second, third):
        work.let_go_on()
    for work in (first, second, third):
        await stage.ended(work)
    done, _ = stage.completed(first)[0]
    given, _ = record.assignments(stage.record, third.rollout_id)[0]
    ahead = done.at - given.at
    stage.demand(ahead <= 0, f"with both slots taken, a third rollout was claimed {ahead:.3f} s before one was free")


async def test_unknown_fields_messages_and_enum_values_are_ignored(stage: Stage) -> None:
    resources_id = await resources(stage)
    with stage.proxy.answering(faults.from_a_newer_store):
        await stage.goes_on()
        work = await stage.give(waits=True, resources_id=resources_id, resources_version=1, reward=1)
        await stage.hears(work, "began")
        await stage.until(
            "a heartbeat named the attempt", lambda: record.heartbeats(stage.record, stage.assigned(work))
        )
        work.let_go_on()
        rollout = await stage.ended(work)
    stage.demand(rollout.status == ROLLOUT_STATUS_SUCCEEDED, f"the rollout is not succeeded: {rollout}")
    stage.demand(f"prompt {TEMPLATE}" in work.lines, f"the agent was not given the resource beside it: {work.lines}")


async def test_resources_that_are_not_there_are_nobodys_failure_but_the_infrastructures(stage: Stage) -> None:
    work = await stage.give(resources_id="rs-of-nobody", config=ONCE)
    rollout = await stage.ended(work)
    failure = rollout.latest_attempt.failure
    stage.demand(
        failure.kind == FAILURE_KIND_INFRASTRUCTURE,
        f"the store has no such resources, and the failure is not INFRASTRUCTURE: {failure}",
    )
    stage.demand("rs-of-nobody" in failure.message, f"the failure does not name the resources: {failure}")
    stage.demand(not work.lines, f"the agent was begun without its resources: {work.lines}")
    await stage.goes_on()
