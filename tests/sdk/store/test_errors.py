"""Errors say what is wrong and what to do, and are the ValueErrors that code written for older stores catches."""

from collections.abc import Callable

import agentlightning as agl
import pytest


@pytest.mark.parametrize("task", [object(), float("nan"), {"x": float("inf")}])
async def test_a_task_that_json_cannot_say_is_refused_by_field(store: agl.LightningStoreClient, task: object) -> None:
    with pytest.raises(agl.InvalidRequestError, match="input"):
        await store.enqueue_rollout(task)


async def test_a_span_of_an_unknown_attempt_is_refused_by_name(store: agl.LightningStoreClient) -> None:
    span = agl.Span.from_attributes(attributes={}, rollout_id="ro-000000000000", attempt_id="at-0000000000000000")
    with pytest.raises(agl.NotFoundError, match="ro-000000000000"):
        await store.add_span(span)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda store: store.start_attempt("ro-x"), "Rollout ro-x not found"),
        (lambda store: store.update_rollout("ro-x", status="failed"), "Item.*does not exist"),
        (lambda store: store.update_attempt("ro-x", "at-x", status="failed"), "Rollout ro-x not found"),
        (lambda store: store.update_run("run-x", status="failed"), "Run run-x not found"),
    ],
    ids=["start_attempt", "update_rollout", "update_attempt", "update_run"],
)
async def test_what_is_not_there_is_named(
    store: agl.LightningStoreClient, call: Callable[[agl.LightningStoreClient], object], words: str
) -> None:
    with pytest.raises(ValueError, match=words) as refusal:
        await call(store)  # type: ignore[misc]
    assert isinstance(refusal.value, agl.NotFoundError)


@pytest.mark.parametrize("attempt_id", ["latest", "at-x"])
async def test_a_rollout_without_attempts_has_none_to_update(store: agl.LightningStoreClient, attempt_id: str) -> None:
    rollout = await store.enqueue_rollout("task")
    with pytest.raises(ValueError, match=f"No attempts found for rollout {rollout.rollout_id}"):
        await store.update_attempt(rollout.rollout_id, attempt_id, status="failed")


async def test_an_unknown_attempt_of_a_known_rollout_is_named_with_it(
    store: agl.LightningStoreClient, make_span: Callable[..., agl.Span]
) -> None:
    started = await store.start_rollout("task")
    words = f"Attempt at-x not found for rollout {started.rollout_id}"
    with pytest.raises(ValueError, match=words):
        await store.update_attempt(started.rollout_id, "at-x", status="failed")
    with pytest.raises(ValueError, match=words):
        await store.add_span(make_span(started).model_copy(update={"attempt_id": "at-x"}))


async def test_reading_what_is_not_there_is_no_error(store: agl.LightningStoreClient) -> None:
    assert await store.get_rollout_by_id("ro-x") is None
    assert await store.get_latest_attempt("ro-x") is None
    assert await store.query_attempts("ro-x") == []
    assert await store.query_spans("ro-x", "latest") == []


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda store: store.query_rollouts(status_in=["done"]), r"status_in\[0\] is 'done', expected one of queuing"),
        (lambda store: store.query_rollouts(mode="exam"), "mode is 'exam', expected one of train, val, test"),
        (lambda store: store.query_rollouts(filter_logic="xor"), "filter_logic is 'xor'"),
        (lambda store: store.query_rollouts(sort_order="up"), "sort_order is 'up'"),
        (lambda store: store.query_rollouts(sort_by="input"), "input"),
        (lambda store: store.query_attempts("ro-x", offset=-1), "offset is -1"),
        (lambda store: store.query_spans("ro-x", name=""), "name is ''"),
        (lambda store: store.query_workers(status_in=["tired"]), r"status_in\[0\] is 'tired'"),
        (lambda store: store.update_rollout("ro-x", status=None), "status is None"),
        (lambda store: store.update_rollout("ro-x", config=None), "config is None"),
        (lambda store: store.update_attempt("ro-x", "latest", status="done"), "status is 'done'"),
        (lambda store: store.update_attempt("ro-x", "latest", last_heartbeat_time=None), "last_heartbeat_time is None"),
        (lambda store: store.update_attempt("ro-x", "latest", last_heartbeat_time=float("inf")), "time is inf"),
        (lambda store: store.wait_for_rollouts(["ro-x"], timeout=float("nan")), "timeout is nan"),
        (lambda store: store.update_worker("w", heartbeat_stats={"x": float("nan")}), "heartbeat_stats is"),
        (lambda store: store.enqueue_rollout("task", metadata={"x": "half \ud83d"}), "metadata is"),
    ],
)
async def test_a_value_that_cannot_be_is_refused_by_name(
    store: agl.LightningStoreClient, call: Callable[[agl.LightningStoreClient], object], field: str
) -> None:
    with pytest.raises(agl.InvalidRequestError, match=field):
        await call(store)  # type: ignore[misc]


async def test_a_worker_says_something_or_nothing_but_not_none(store: agl.LightningStoreClient) -> None:
    with pytest.raises(TypeError, match="heartbeat_stats is None"):
        await store.update_worker("w", heartbeat_stats=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["cancel_rollouts", "wait_for_rollouts", "delete_rollouts", "query_rollouts"])
async def test_one_id_is_no_list_of_its_letters(store: agl.LightningStoreClient, method: str) -> None:
    with pytest.raises(agl.InvalidRequestError, match=r"expected a list: \['ro-5f0c2b7a91de'\]"):
        await getattr(store, method)("ro-5f0c2b7a91de")


async def test_metadata_that_is_no_dict_is_refused_before_anybody_has_to_read_it(
    store: agl.LightningStoreClient,
) -> None:
    started = await store.start_rollout(1)
    with pytest.raises(agl.InvalidRequestError, match="metadata is"):
        await store.update_attempt(started.rollout_id, "latest", metadata=[1])  # type: ignore[arg-type]
    assert isinstance(await store.get_rollout_by_id(started.rollout_id), agl.AttemptedRollout)


async def test_no_id_names_no_resources(store: agl.LightningStoreClient) -> None:
    await store.add_resources({"prompt": "Hi"})
    assert await store.get_resources_by_id("") is None


@pytest.mark.parametrize(("kind", "typo"), [(agl.RolloutConfig, "max_retries"), (agl.RetryPolicy, "initial_backoff")])
def test_a_setting_that_there_is_not_is_refused_by_name(kind: type, typo: str) -> None:
    with pytest.raises(ValueError, match=typo):
        kind(**{"kind": "agent"} if kind is agl.RetryPolicy else {}, **{typo: 3})
