import asyncio
import logging
from collections.abc import Sequence

import pytest
from agentlightning import AlgorithmError, AttemptedRollout, Failure, LightningStore, Rollout, Span
from agentlightning.algorithm import Evaluation, evaluate, mean_reward
from agentlightning.semconv import ANNOTATION_SPAN, PRIMARY_REWARD_VALUE

WAIT_SECONDS = 30.0


async def take(store: LightningStore, count: int) -> list[AttemptedRollout]:
    taken: list[AttemptedRollout] = []
    while len(taken) < count:
        taken += await store.dequeue_many_rollouts(limit=count - len(taken), wait_seconds=WAIT_SECONDS)
    return taken


async def finish(
    store: LightningStore, rollout: AttemptedRollout, reward: float | None = None, failure: Failure | None = None
) -> None:
    ids = {"rollout_id": rollout.rollout_id, "attempt_id": rollout.attempt.attempt_id}
    attributes = {PRIMARY_REWARD_VALUE: reward}
    spans = [] if reward is None else [Span.from_attributes(name=ANNOTATION_SPAN, attributes=attributes, **ids)]
    await store.complete_attempt(*ids.values(), failure=failure, spans=spans)


def outcome(reward: float | None = None, failure: Failure | None = None) -> Evaluation:
    return Evaluation("task", Rollout(rollout_id="ro-1", input="task", start_time=0.0), reward, failure)


def failures(*kinds: str) -> Sequence[Evaluation]:
    return [outcome(failure=Failure(kind=kind, message=f"it was {kind}")) for kind in kinds]


async def test_evaluations_come_in_the_order_of_the_tasks_whatever_ends_first(store: LightningStore) -> None:
    ended: list[str] = []
    evaluating = asyncio.create_task(
        evaluate(store, None, [0, 1, 2], mode="val", on_done=lambda rollout: ended.append(rollout.input))
    )
    for rollout in reversed(await take(store, 3)):
        await finish(store, rollout, rollout.input / 2)
    evaluations = await evaluating
    assert [(e.task, e.rollout.input, e.reward, e.failure) for e in evaluations] == [
        (0, 0, 0.0, None),
        (1, 1, 0.5, None),
        (2, 2, 1.0, None),
    ]
    assert sorted(ended) == [0, 1, 2]


async def test_every_rollout_is_given_the_resources_the_mode_and_the_labels(store: LightningStore) -> None:
    resources = await store.add_resources({"prompt": "Hi"})
    await store.add_resources({"prompt": "Newer"})
    evaluating = asyncio.create_task(evaluate(store, resources, ["a"], mode="train", labels={"round": "1"}))
    (rollout,) = await take(store, 1)
    await finish(store, rollout, 1.0)
    await evaluating
    assert (rollout.resources_id, rollout.resources_version) == (resources.resources_id, resources.version)
    assert (rollout.mode, rollout.labels) == ("train", {"round": "1"})


async def test_a_failure_is_told_as_the_attempt_tells_it(store: LightningStore) -> None:
    evaluating = asyncio.create_task(evaluate(store, None, ["a"], mode="val"))
    (rollout,) = await take(store, 1)
    await finish(store, rollout, failure=Failure(kind="agent", type="KeyError", message="'date'"))
    (evaluation,) = await evaluating
    assert str(evaluation.failure) == "KeyError: 'date'"
    assert evaluation.score == 0.0


async def test_what_is_not_done_in_time_is_cancelled_and_blamed_only_if_it_was_started(store: LightningStore) -> None:
    evaluating = asyncio.create_task(evaluate(store, None, ["hangs", "waits"], mode="val", timeout_seconds=1.0))
    await take(store, 1)
    hanging, waiting = await evaluating
    assert (hanging.rollout.status, waiting.rollout.status) == ("cancelled", "cancelled")
    assert (hanging.failure and hanging.failure.kind, hanging.score) == ("timeout", 0.0)
    assert (waiting.failure and waiting.failure.kind, waiting.score) == ("infrastructure", None)


async def test_a_rollout_that_somebody_cancels_has_no_score(store: LightningStore) -> None:
    evaluating = asyncio.create_task(evaluate(store, None, ["a"], mode="val"))
    (rollout,) = await take(store, 1)
    await store.cancel_rollouts([rollout.rollout_id])
    (evaluation,) = await evaluating
    assert (evaluation.failure and evaluation.failure.kind, evaluation.score) == ("cancelled", None)


async def test_cancelling_an_evaluation_cancels_its_rollouts(store: LightningStore) -> None:
    evaluating = asyncio.create_task(evaluate(store, None, ["a", "b"], mode="val"))
    rollouts = await take(store, 2)
    evaluating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await evaluating
    after = await store.query_rollouts(rollout_id_in=[rollout.rollout_id for rollout in rollouts])
    assert {rollout.status for rollout in after} == {"cancelled"}


async def test_no_tasks_need_no_runner(store: LightningStore) -> None:
    assert await evaluate(store, None, [], mode="val") == []


def test_the_fault_of_the_agent_counts_as_zero() -> None:
    assert mean_reward([outcome(1.0), *failures("agent", "timeout", "agent")]) == 0.25


def test_what_says_nothing_about_the_agent_is_left_out_and_told(caplog: pytest.LogCaptureFixture) -> None:
    left_out = failures("infrastructure", "unresponsive", "cancelled")
    assert mean_reward([outcome(1.0), outcome(0.5), *left_out, outcome()]) == 0.75
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "4 of 6 rollouts are left out of the mean; the first of them: it was infrastructure"


def test_rewards_that_are_missing_everywhere_are_an_error_that_names_the_way_out() -> None:
    with pytest.raises(AlgorithmError, match=r"none of the 2 rollouts that succeeded has a reward.*emit_reward"):
        mean_reward([outcome(), outcome(), *failures("agent")])


def test_nothing_but_lost_rollouts_is_an_error_that_names_the_cause() -> None:
    with pytest.raises(AlgorithmError, match=r"none of the 2 rollouts.*it was infrastructure"):
        mean_reward(failures("infrastructure", "cancelled"))


def test_an_agent_that_always_fails_is_worth_zero() -> None:
    assert mean_reward(failures("agent", "agent")) == 0.0
