"""Arguments that a call does not take are refused by the names of its parameters, before anything is sent."""

from collections.abc import Callable
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.store.base import LightningStore
from agentlightning.store.client import LightningStoreClient

Call = Callable[[Any], Any]

NOWHERE = agl.LightningStoreClient("localhost:1", retry_seconds=0)
SPAN = agl.Span.from_attributes(attributes={}, rollout_id="ro-x", attempt_id="at-x")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda store: store.start_attempt(5), "rollout_id is 5, expected a text"),
        (lambda store: store.start_attempt("ro-x", worker_id=5), "worker_id is 5, expected a text"),
        (lambda store: store.get_rollout_by_id(None), "rollout_id is None, expected a text"),
        (lambda store: store.cancel_rollouts("ro-x"), "rollout_ids is 'ro-x', expected a list: ['ro-x']"),
        (lambda store: store.wait_for_rollouts("ro-x"), "rollout_ids is 'ro-x', expected a list: ['ro-x']"),
        (lambda store: store.query_rollouts(5), "rollout_ids is 5, expected a list"),
        (
            lambda store: store.query_rollouts(status_in="running"),
            "status_in is 'running', expected a list",
        ),
        (lambda store: store.query_workers(status_in="idle"), "status_in is 'idle', expected a list: ['idle']"),
        (lambda store: store.delete_rollouts(["ro-x", 5]), "rollout_ids[1] is 5, expected a text"),
        (lambda store: store.query_rollouts(limit="x"), "limit is 'x', expected a whole number"),
        (lambda store: store.query_spans("ro-x", limit=None), "limit is None, expected a whole number"),
        (lambda store: store.query_runs(limit=1.5), "limit is 1.5, expected a whole number"),
        (lambda store: store.wait_for_rollouts(["ro-x"], timeout="x"), "timeout is 'x', expected a number"),
        (lambda store: store.dequeue_rollout(wait_seconds=None), "wait_seconds is None, expected a number"),
        (lambda store: store.dequeue_rollout(on_lost=5), "on_lost is 5, expected a function"),
        (lambda store: store.query_resources(all_versions="x"), "all_versions is 'x', expected True or False"),
        (lambda store: store.query_runs(labels="x"), "labels is 'x', expected a dict"),
        (lambda store: store.enqueue_rollout("t", labels={"a": 1}), "labels['a'] is 1, expected a text"),
        (lambda store: store.add_resources({5: "x"}), "a key of resources is 5, expected a text"),
        (lambda store: store.enqueue_rollout("t", config={}), "config is {}, expected a RolloutConfig"),
        (lambda store: store.enqueue_many_rollouts([{}]), "rollouts[0] is {}, expected an EnqueueRolloutRequest"),
        (lambda store: store.add_span({}), "span is {}, expected a Span"),
        (lambda store: store.add_many_spans(["x"]), "spans[0] is 'x', expected a Span"),
        (lambda store: store.complete_attempt("ro-x", "at-x", failure="bad"), "failure is 'bad', expected a Failure"),
        (lambda store: store.get_many_span_sequence_ids(["ro-x"]), "rollout_attempt_ids[0] is 'ro-x', expected a pair"),
    ],
)
async def test_an_argument_of_another_type_is_refused_by_the_name_of_its_parameter(call: Call, message: str) -> None:
    with pytest.raises(agl.InvalidRequestError) as refusal:
        await call(NOWHERE)
    assert str(refusal.value).startswith(message)
    assert isinstance(refusal.value, TypeError)


async def test_one_object_is_no_list_of_its_fields() -> None:
    with pytest.raises(agl.InvalidRequestError, match=r"spans is Span\(.*, expected a list"):
        await NOWHERE.add_many_spans(SPAN)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda store: store.start_rollout("t", mode="exam"), "mode is 'exam', expected one of train, val, test"),
        (lambda store: store.enqueue_rollout("t", priority=2**40), "priority is 1099511627776, expected less than"),
        (lambda store: store.query_attempts("ro-x", limit=-2), "limit is -2, expected -1 for all of them"),
        (lambda store: store.update_run("run-x"), "nothing to change is given, expected at least one of status, check"),
        (lambda store: store.add_otel_span("ro-x", "at-x", SPAN), "readable_span is Span("),
    ],
)
async def test_a_value_that_cannot_be_is_refused_before_anything_is_sent(call: Call, message: str) -> None:
    with pytest.raises(agl.InvalidRequestError) as refusal:
        await call(NOWHERE)
    assert str(refusal.value).startswith(message)


@pytest.mark.parametrize(
    ("call", "parameter", "message"),
    [
        (lambda store: store.query_rollouts(sort_by="input"), "sort_by", "sort_by is 'input', expected one of"),
        (
            lambda store: store.query_spans("ro-x", sort_by="kind", sort_order="desc"),
            "sort_by",
            "sort_by is 'kind', expected one of sequence_id, attempt_id, trace_id, span_id, parent_id, name, "
            "start_time, end_time",
        ),
        (
            lambda store: store.delete_rollouts(["ro-x"], ended_for_seconds=-1),
            "ended_for_seconds",
            "ended_for_seconds is '-1s', expected 0s or more",
        ),
        (
            lambda store: store.update_attempt("ro-x", "at-x", last_heartbeat_time=-1),
            "last_heartbeat_time",
            "last_heartbeat_time is '-1s 0ns', expected a moment",
        ),
        (
            lambda store: store.enqueue_rollout("t", config=agl.RolloutConfig(max_attempts=5000)),
            "rollouts[0].config.max_attempts",
            "rollouts[0].config.max_attempts is '5000', expected 0 to 1000",
        ),
    ],
)
async def test_what_the_store_refuses_is_said_in_the_names_of_parameters(
    store: agl.LightningStoreClient, call: Call, parameter: str, message: str
) -> None:
    with pytest.raises(agl.InvalidRequestError) as refusal:
        await call(store)
    assert str(refusal.value).startswith(message)
    assert refusal.value.metadata["field"] == parameter


@pytest.mark.parametrize("ids_of", [list, tuple, set, dict.keys])
async def test_any_collection_of_ids_will_do(store: agl.LightningStoreClient, ids_of: Callable[..., Any]) -> None:
    rollout = await store.enqueue_rollout("t")
    assert await store.query_rollouts(ids_of({rollout.rollout_id: rollout})) == [rollout]


@pytest.mark.parametrize("name", [name for name in vars(LightningStore) if not name.startswith("_")])
def test_every_call_is_checked(name: str) -> None:
    method = vars(LightningStoreClient)[name]
    assert isinstance(method, property) or hasattr(method, "__wrapped__")
