"""What code written against the existing store may write down: names, order, defaults. Ours may take more."""

import inspect
from typing import Any

import pytest
from agentlightning.store.base import UNSET, LightningStore
from agentlightning.store.client import LightningStoreClient

REQUIRED = inspect.Parameter.empty
PAGE = {"limit": -1, "offset": 0}
NEW = {"input": REQUIRED, "mode": None, "resources_id": None, "config": None, "metadata": None}

POSITIONAL: dict[str, dict[str, Any]] = {
    "statistics": {},
    "start_rollout": {**NEW, "worker_id": None},
    "enqueue_rollout": NEW,
    "enqueue_many_rollouts": {"rollouts": REQUIRED},
    "dequeue_rollout": {"worker_id": None},
    "start_attempt": {"rollout_id": REQUIRED, "worker_id": None},
    "query_attempts": {"rollout_id": REQUIRED},
    "get_rollout_by_id": {"rollout_id": REQUIRED},
    "get_latest_attempt": {"rollout_id": REQUIRED},
    "add_resources": {"resources": REQUIRED},
    "update_resources": {"resources_id": REQUIRED, "resources": REQUIRED},
    "get_resources_by_id": {"resources_id": REQUIRED},
    "get_latest_resources": {},
    "add_span": {"span": REQUIRED},
    "add_many_spans": {"spans": REQUIRED},
    "add_otel_span": {
        "rollout_id": REQUIRED,
        "attempt_id": REQUIRED,
        "readable_span": REQUIRED,
        "sequence_id": None,
    },
    "get_next_span_sequence_id": {"rollout_id": REQUIRED, "attempt_id": REQUIRED},
    "get_many_span_sequence_ids": {"rollout_attempt_ids": REQUIRED},
    "query_spans": {"rollout_id": REQUIRED, "attempt_id": None},
    "update_rollout": {"rollout_id": REQUIRED, **dict.fromkeys(("input", "mode", "resources_id", "status"), UNSET)}
    | {"config": UNSET, "metadata": UNSET},
    "update_attempt": {"rollout_id": REQUIRED, "attempt_id": REQUIRED}
    | dict.fromkeys(("status", "worker_id", "last_heartbeat_time", "metadata"), UNSET),
    "get_worker_by_id": {"worker_id": REQUIRED},
    "update_worker": {"worker_id": REQUIRED, "heartbeat_stats": UNSET},
}
BY_NAME: dict[str, dict[str, Any]] = {
    "dequeue_many_rollouts": {"limit": 1, "worker_id": None},
    "query_rollouts": dict.fromkeys(
        ("status_in", "rollout_id_in", "rollout_id_contains", "sort_by", "status", "rollout_ids")
    )
    | {"filter_logic": "and", "sort_order": "asc", **PAGE},
    "query_attempts": {"sort_by": "sequence_id", "sort_order": "asc", **PAGE},
    "query_resources": {"resources_id": None, "resources_id_contains": None, "sort_by": None}
    | {"sort_order": "asc", **PAGE},
    "wait_for_rollouts": {"rollout_ids": REQUIRED, "timeout": None},
    "query_spans": {
        f"{field}{suffix}": None
        for field in ("trace_id", "span_id", "parent_id", "name")
        for suffix in ("", "_contains")
    }
    | {"filter_logic": "and", "sort_by": "sequence_id", "sort_order": "asc", **PAGE},
    "query_workers": {"status_in": None, "worker_id_contains": None, "filter_logic": "and", "sort_by": None}
    | {"sort_order": "asc", **PAGE},
}
METHODS = sorted(name for name in vars(LightningStore) if not name.startswith("_"))


def parameters(store: type, method: str) -> list[inspect.Parameter]:
    return list(inspect.signature(getattr(store, method)).parameters.values())[1:]


@pytest.mark.parametrize("method", POSITIONAL)
def test_arguments_in_order_mean_the_same(method: str) -> None:
    expected = POSITIONAL[method]
    ours = parameters(LightningStore, method)[: len(expected)]
    assert {parameter.name: parameter.default for parameter in ours} == expected
    assert list(expected) == [parameter.name for parameter in ours]
    assert {parameter.kind for parameter in ours} <= {inspect.Parameter.POSITIONAL_OR_KEYWORD}


@pytest.mark.parametrize("method", BY_NAME)
def test_arguments_by_name_mean_the_same(method: str) -> None:
    ours = {parameter.name: parameter.default for parameter in parameters(LightningStore, method)}
    assert {name: ours.get(name, "missing") for name in BY_NAME[method]} == BY_NAME[method]


@pytest.mark.parametrize("method", sorted(POSITIONAL.keys() | BY_NAME.keys()))
def test_what_is_ours_alone_need_not_be_given(method: str) -> None:
    known = POSITIONAL.get(method, {}).keys() | BY_NAME.get(method, {}).keys()
    ours = [parameter for parameter in parameters(LightningStore, method) if parameter.name not in known]
    assert [parameter.name for parameter in ours if parameter.default is REQUIRED] == []


@pytest.mark.parametrize("method", [name for name in METHODS if callable(getattr(LightningStore, name))])
def test_the_client_takes_what_the_store_says(method: str) -> None:
    assert parameters(LightningStoreClient, method) == parameters(LightningStore, method)
