"""Attempts: started, heard of, ended, updated; and the rollout that follows the latest of them."""

from collections.abc import Callable

import agentlightning as agl
import pytest

RETRIED = agl.RolloutConfig(max_attempts=2, retry_condition=["unresponsive"])


async def test_completing_a_superseded_attempt_is_refused(store: agl.LightningStoreClient) -> None:
    started = await store.start_rollout("task")
    await store.start_attempt(started.rollout_id)
    with pytest.raises(agl.AttemptLostError) as refusal:
        await store.complete_attempt(started.rollout_id, started.attempt.attempt_id)
    assert refusal.value.reason == "ATTEMPT_SUPERSEDED"


async def test_cancelling_reaches_the_holder_and_refuses_its_completion(store: agl.LightningStoreClient) -> None:
    await store.enqueue_rollout("task")
    claimed = await store.dequeue_rollout()
    assert claimed is not None
    [cancelled] = await store.cancel_rollouts([claimed.rollout_id])
    assert cancelled.status == "cancelled"
    with pytest.raises(agl.AttemptLostError) as refusal:
        await store.complete_attempt(claimed.rollout_id, claimed.attempt.attempt_id)
    assert refusal.value.metadata["status"] == "cancelled"


async def test_a_failure_is_readable_from_the_algorithm(store: agl.LightningStoreClient) -> None:
    started = await store.start_rollout("task")
    failure = agl.Failure(kind="agent", type="ValueError", message="no room", stack_trace="Traceback ...")
    await store.complete_attempt(started.rollout_id, started.attempt.attempt_id, failure=failure)
    [rollout] = await store.query_rollouts([started.rollout_id])
    assert isinstance(rollout, agl.AttemptedRollout)
    assert rollout.status == "failed"
    assert rollout.attempt.failure == failure


async def test_an_update_changes_what_is_given_and_nothing_else(store: agl.LightningStoreClient) -> None:
    rollout = await store.enqueue_rollout("task", mode="val", metadata={"keep": 1})
    updated = await store.update_rollout(rollout.rollout_id, mode=None, input="other")
    assert (updated.mode, updated.input, updated.metadata) == (None, "other", {"keep": 1})
    cleared = await store.update_rollout(rollout.rollout_id, metadata=None)
    assert (cleared.metadata, cleared.input) == (None, "other")


async def test_an_update_of_an_attempt_is_followed_by_its_rollout(store: agl.LightningStoreClient) -> None:
    started = await store.start_rollout("task")
    attempt = await store.update_attempt(started.rollout_id, "latest", status="succeeded", metadata={"by": "hand"})
    assert (attempt.status, attempt.metadata) == ("succeeded", {"by": "hand"})
    rollout = await store.get_rollout_by_id(started.rollout_id)
    assert rollout is not None
    assert rollout.status == "succeeded"


async def test_the_final_reward_is_on_the_attempt_with_its_last_reward_span(store: agl.LightningStoreClient) -> None:
    started = await store.start_rollout("task")
    for sequence_id, value in ((1, 0.2), (2, 0.7)):
        await store.add_span(
            agl.Span.from_attributes(
                attributes={"agentlightning.reward.0.name": "primary", "agentlightning.reward.0.value": value},
                rollout_id=started.rollout_id,
                attempt_id=started.attempt.attempt_id,
                sequence_id=sequence_id,
            )
        )
    attempt = await store.get_latest_attempt(started.rollout_id)
    assert attempt is not None
    assert attempt.final_reward == 0.7


async def status_of(store: agl.LightningStoreClient, rollout_id: str) -> str:
    rollout = await store.get_rollout_by_id(rollout_id)
    assert rollout is not None
    return rollout.status


async def test_a_started_rollout_has_its_first_attempt_and_waits_in_no_queue(store: agl.LightningStoreClient) -> None:
    config = agl.RolloutConfig(max_attempts=2)
    started = await store.start_rollout("task", "val", "not-there", config, {"a": 1}, worker_id="w")
    assert (started.status, started.attempt.status, started.attempt.sequence_id) == ("preparing", "preparing", 1)
    assert (started.mode, started.resources_id, started.config, started.metadata) == (
        "val",
        "not-there",
        config,
        {"a": 1},
    )
    assert (started.attempt.worker_id, started.attempt.last_heartbeat_time) == ("w", None)
    assert await store.dequeue_rollout() is None


async def test_ids_say_what_they_are_of(store: agl.LightningStoreClient) -> None:
    started = await store.start_rollout("task")
    assert started.rollout_id.startswith("ro-")
    assert started.attempt.attempt_id.startswith("at-")


async def test_a_read_rollout_has_its_latest_attempt_or_none(store: agl.LightningStoreClient) -> None:
    queued = await store.enqueue_rollout("task")
    assert type(await store.get_rollout_by_id(queued.rollout_id)) is agl.Rollout
    assert await store.get_latest_attempt(queued.rollout_id) is None
    await store.start_attempt(queued.rollout_id)
    second = await store.start_attempt(queued.rollout_id, worker_id="w")
    read = await store.get_rollout_by_id(queued.rollout_id)
    assert type(read) is agl.AttemptedRollout
    assert (read.attempt.attempt_id, read.attempt.sequence_id) == (second.attempt.attempt_id, 2)
    assert await store.get_latest_attempt(queued.rollout_id) == read.attempt


async def test_another_attempt_may_be_started_beyond_the_limit_and_of_what_has_ended(
    store: agl.LightningStoreClient,
) -> None:
    started = await store.start_rollout("task", config=agl.RolloutConfig(max_attempts=1))
    await store.update_attempt(started.rollout_id, "latest", status="succeeded")
    again = await store.start_attempt(started.rollout_id)
    assert (again.attempt.sequence_id, again.status, again.end_time) == (2, "preparing", None)


async def test_a_span_is_a_sign_of_life(store: agl.LightningStoreClient, make_span: Callable[..., agl.Span]) -> None:
    started = await store.start_rollout("task")
    await store.add_span(make_span(started))
    attempt = await store.get_latest_attempt(started.rollout_id)
    assert attempt is not None
    assert attempt.status == "running"
    assert attempt.last_heartbeat_time is not None
    assert await status_of(store, started.rollout_id) == "running"


@pytest.mark.parametrize("status", ["succeeded", "failed", "timeout", "unresponsive", "cancelled"])
async def test_an_attempt_that_is_told_to_have_ended_has_ended(
    store: agl.LightningStoreClient, status: agl.AttemptStatus
) -> None:
    started = await store.start_rollout("task")
    attempt = await store.update_attempt(started.rollout_id, started.attempt.attempt_id, status=status)
    assert attempt.status == status
    assert attempt.end_time is not None
    assert attempt.end_time >= attempt.start_time


async def test_only_the_latest_attempt_moves_its_rollout(store: agl.LightningStoreClient) -> None:
    first = await store.start_rollout("task")
    second = await store.start_attempt(first.rollout_id)
    await store.update_attempt(first.rollout_id, first.attempt.attempt_id, status="succeeded")
    assert await status_of(store, first.rollout_id) == "preparing"
    latest = await store.update_attempt(first.rollout_id, "latest", status="failed")
    assert latest.attempt_id == second.attempt.attempt_id
    assert await status_of(store, first.rollout_id) == "failed"


async def test_a_retried_attempt_puts_its_rollout_back_into_the_queue(store: agl.LightningStoreClient) -> None:
    started = await store.start_rollout("task", config=RETRIED)
    await store.update_attempt(started.rollout_id, "latest", status="unresponsive")
    assert await status_of(store, started.rollout_id) == "requeuing"
    retried = await store.dequeue_rollout()
    assert retried is not None
    assert (retried.rollout_id, retried.attempt.sequence_id) == (started.rollout_id, 2)


@pytest.mark.parametrize("outcome", ["succeeded", "failed"])
async def test_an_attempt_that_speaks_up_before_its_retry_goes_on(
    store: agl.LightningStoreClient, make_span: Callable[..., agl.Span], outcome: agl.AttemptStatus
) -> None:
    started = await store.start_rollout("task", config=RETRIED)
    await store.update_attempt(started.rollout_id, "latest", status="unresponsive")
    await store.add_span(make_span(started))
    assert await status_of(store, started.rollout_id) == "running"
    assert await store.dequeue_rollout() is None
    await store.update_attempt(started.rollout_id, started.attempt.attempt_id, status=outcome)
    assert await status_of(store, started.rollout_id) == outcome
    assert await store.dequeue_rollout() is None


async def test_an_update_of_other_things_moves_no_status(store: agl.LightningStoreClient) -> None:
    started = await store.start_rollout("task")
    await store.cancel_rollouts([started.rollout_id])
    attempt = await store.update_attempt(
        started.rollout_id, "latest", worker_id="w", last_heartbeat_time=1_700_000_000.5, metadata={"a": 1}
    )
    assert (attempt.worker_id, attempt.last_heartbeat_time, attempt.metadata) == ("w", 1_700_000_000.5, {"a": 1})
    assert await status_of(store, started.rollout_id) == "cancelled"


async def test_metadata_of_an_attempt_are_replaced_and_cleared(store: agl.LightningStoreClient) -> None:
    started = await store.start_rollout("task", worker_id="w")
    await store.update_attempt(started.rollout_id, "latest", metadata={"a": 1})
    replaced = await store.update_attempt(started.rollout_id, "latest", metadata={})
    assert (replaced.metadata, replaced.worker_id) == ({}, "w")
    cleared = await store.update_attempt(started.rollout_id, "latest", metadata=None, worker_id="")
    assert (cleared.metadata, cleared.worker_id) == (None, None)


async def test_a_rollout_has_the_final_reward_of_its_latest_attempt(
    store: agl.LightningStoreClient, make_span: Callable[..., agl.Span]
) -> None:
    queued = await store.enqueue_rollout("task")
    assert queued.final_reward is None
    started = await store.start_attempt(queued.rollout_id)
    reward = {"agentlightning.reward.0.name": "primary", "agentlightning.reward.0.value": 0.5}
    await store.add_span(make_span(started, attributes=reward))
    read = await store.get_rollout_by_id(queued.rollout_id)
    assert read is not None
    assert read.final_reward == 0.5
    assert (await store.start_attempt(queued.rollout_id)).final_reward is None


async def test_what_is_given_of_a_rollout_is_changed_at_once(store: agl.LightningStoreClient) -> None:
    rollout = await store.enqueue_rollout("task")
    config = agl.RolloutConfig(timeout_seconds=60, max_attempts=3, retry_condition=["timeout"])
    updated = await store.update_rollout(
        rollout.rollout_id, {"a": 1}, mode="train", resources_id="new", status="running", config=config
    )
    assert (updated.input, updated.mode, updated.resources_id) == ({"a": 1}, "train", "new")
    assert (updated.status, updated.config) == ("running", config)


async def test_a_rollout_that_ends_has_an_end_and_a_reopened_one_none(store: agl.LightningStoreClient) -> None:
    rollout = await store.enqueue_rollout("task")
    ended = await store.update_rollout(rollout.rollout_id, status="succeeded")
    assert ended.end_time is not None
    assert ended.end_time > ended.start_time
    assert (await store.update_rollout(rollout.rollout_id, status="requeuing")).end_time is None


@pytest.mark.parametrize("field", ["worker_id", "status", "last_heartbeat_time"])
async def test_what_cannot_be_none_is_refused_by_name(store: agl.LightningStoreClient, field: str) -> None:
    started = await store.start_rollout(1)
    with pytest.raises(agl.InvalidRequestError, match=f"{field} is None"):
        await store.update_attempt(started.rollout_id, "latest", **{field: None})
