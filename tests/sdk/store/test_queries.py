"""Lists: filtered, sorted, a page at a time, with a count of all that match."""

from collections.abc import Callable, Iterable

import agentlightning as agl
import pytest

Store = agl.LightningStoreClient
MakeSpan = Callable[..., agl.Span]
NOBODY = "ro-000000000000"


def ids_of(rollouts: Iterable[agl.Rollout]) -> list[str]:
    return [rollout.rollout_id for rollout in rollouts]


@pytest.fixture
async def three(run_store: Store) -> list[str]:
    """The ids of a queuing, a failed and a succeeded rollout."""
    ids = ids_of([await run_store.enqueue_rollout(number) for number in range(3)])
    await run_store.update_rollout(ids[1], status="failed")
    await run_store.update_rollout(ids[2], status="succeeded")
    return ids


async def test_queries_filter_sort_and_page(store: agl.LightningStoreClient) -> None:
    bound = store.bind(run_id=(await store.create_run("x")).run_id)
    rollouts = [await bound.enqueue_rollout(number, mode="val" if number % 2 else "train") for number in range(5)]
    ids = [rollout.rollout_id for rollout in rollouts]
    assert [rollout.rollout_id for rollout in await bound.query_rollouts()] == ids
    page = await bound.query_rollouts(sort_by="start_time", sort_order="desc", limit=2, offset=1)
    assert ([rollout.rollout_id for rollout in page], page.total) == ([ids[3], ids[2]], 5)
    assert len(await bound.query_rollouts(mode="val")) == 2
    assert len(await bound.query_rollouts(status_in=[])) == 0


async def test_rollouts_are_found_by_their_labels(store: agl.LightningStoreClient) -> None:
    await store.enqueue_rollout("plain", labels={"kind": "other"})
    labelled = await store.enqueue_rollout("labelled", labels={"kind": "a", "by": store.queue or ""})
    found = await store.query_rollouts(labels={"kind": "a", "by": store.queue or ""})
    assert [rollout.rollout_id for rollout in found] == [labelled.rollout_id]


async def test_rollouts_are_found_by_status(run_store: Store, three: list[str]) -> None:
    assert ids_of(await run_store.query_rollouts(status_in=["failed", "succeeded"])) == three[1:]
    assert ids_of(await run_store.query_rollouts(status_in=["running"])) == []


async def test_rollouts_are_found_by_id(run_store: Store, three: list[str]) -> None:
    assert ids_of(await run_store.query_rollouts(rollout_id_in=[three[2], NOBODY, three[0]])) == [three[0], three[2]]
    assert ids_of(await run_store.query_rollouts(rollout_id_contains=three[1][-8:])) == [three[1]]
    assert ids_of(await run_store.query_rollouts(rollout_id_contains=three[1].upper())) == []


async def test_all_filters_must_hold_unless_one_will_do(run_store: Store, three: list[str]) -> None:
    assert ids_of(await run_store.query_rollouts(status_in=["failed"], rollout_id_contains=three[2][-8:])) == []
    either = await run_store.query_rollouts(status_in=["failed"], rollout_id_contains=three[2][-8:], filter_logic="or")
    assert ids_of(either) == three[1:]
    assert ids_of(await run_store.query_rollouts(filter_logic="or")) == three


async def test_an_empty_list_matches_nothing(run_store: Store, three: list[str]) -> None:
    assert ids_of(await run_store.query_rollouts(rollout_id_in=[])) == []
    assert ids_of(await run_store.query_rollouts(status_in=[], filter_logic="or")) == []
    either = await run_store.query_rollouts(status_in=[], rollout_id_in=three[:1], filter_logic="or")
    assert ids_of(either) == three[:1]


async def test_older_names_of_filters_work_and_newer_ones_win(run_store: Store, three: list[str]) -> None:
    assert ids_of(await run_store.query_rollouts(three[:2])) == three[:2]
    assert ids_of(await run_store.query_rollouts(rollout_ids=three[:2], status=["failed"])) == three[1:2]
    assert ids_of(await run_store.query_rollouts(rollout_ids=three[:1], rollout_id_in=three[1:2])) == three[1:2]
    assert ids_of(await run_store.query_rollouts(status=["queuing"], status_in=["failed"])) == three[1:2]


async def test_a_bound_store_finds_its_runs_rollouts_and_any_by_id(
    store: Store, run_store: Store, three: list[str]
) -> None:
    other = await store.enqueue_rollout("of no run")
    assert ids_of(await run_store.query_rollouts(rollout_id_contains=other.rollout_id)) == []
    assert ids_of(await run_store.query_rollouts(rollout_id_in=[other.rollout_id])) == [other.rollout_id]
    either = await run_store.query_rollouts(rollout_id_in=[other.rollout_id], status_in=["failed"], filter_logic="or")
    assert ids_of(either) == three[1:2]


async def test_rollouts_are_found_by_their_final_reward(run_store: Store, make_span: MakeSpan) -> None:
    started = [await run_store.start_rollout(number) for number in range(3)]
    for rollout, value in zip(started[1:], (0.2, 0.8), strict=True):
        reward = {"agentlightning.reward.0.name": "primary", "agentlightning.reward.0.value": value}
        await run_store.add_span(make_span(rollout, attributes=reward))
    ids = ids_of(started)
    assert ids_of(await run_store.query_rollouts(min_final_reward=0.2)) == ids[1:]
    assert ids_of(await run_store.query_rollouts(max_final_reward=0.5)) == [ids[1]]
    assert ids_of(await run_store.query_rollouts(sort_by="final_reward", sort_order="desc")) == ids[::-1]


@pytest.mark.parametrize(
    ("field", "expected"),
    [("end_time", [1, 2, 0]), ("mode", [0, 2, 1]), ("resources_id", [0, 1, 2]), ("priority", [2, 1, 0])],
)
async def test_what_has_no_time_yet_sorts_last_and_what_has_no_text_first(
    run_store: Store, field: str, expected: list[int]
) -> None:
    rollouts = [
        await run_store.enqueue_rollout(0, priority=3),
        await run_store.enqueue_rollout(1, mode="val", resources_id="a", priority=2),
        await run_store.enqueue_rollout(2, mode="train", resources_id="b", priority=1),
    ]
    await run_store.update_rollout(rollouts[0].rollout_id, resources_id=None)
    for rollout in rollouts[1:]:
        await run_store.update_rollout(rollout.rollout_id, status="succeeded")
    for order, inputs in (("asc", expected), ("desc", expected[::-1])):
        found = await run_store.query_rollouts(sort_by=field, sort_order=order)  # type: ignore[arg-type]
        assert [rollout.input for rollout in found] == inputs


async def test_a_page_knows_what_was_asked_and_how_many_match(run_store: Store, three: list[str]) -> None:
    page = await run_store.query_rollouts(sort_by="rollout_id", limit=1, offset=1)
    assert (ids_of(page), page.limit, page.offset, page.total) == (sorted(three)[1:2], 1, 1, 3)
    assert page.revision > 0
    none = await run_store.query_rollouts(limit=0)
    assert (ids_of(none), none.total) == ([], 3)
    beyond = await run_store.query_rollouts(offset=7)
    assert (ids_of(beyond), beyond.total) == ([], 3)


async def test_more_rollouts_than_a_page_of_the_server_has_are_read_on(run_store: Store) -> None:
    await run_store.enqueue_many_rollouts([agl.EnqueueRolloutRequest(input=number) for number in range(1_005)])
    assert [rollout.input for rollout in await run_store.query_rollouts()] == list(range(1_005))
    page = await run_store.query_rollouts(limit=1_001, offset=2)
    assert ([rollout.input for rollout in page], page.total) == (list(range(2, 1_003)), 1_005)


async def test_attempts_are_sorted_and_paged(store: Store) -> None:
    started = await store.start_rollout("task")
    for worker in ("b", "a"):
        await store.start_attempt(started.rollout_id, worker_id=worker)

    async def numbers(**query: object) -> list[int]:
        found = await store.query_attempts(started.rollout_id, **query)  # type: ignore[arg-type]
        assert found.total == 3
        return [attempt.sequence_id for attempt in found]

    assert await numbers() == [1, 2, 3]
    assert await numbers(sort_order="desc", limit=1, offset=1) == [2]
    assert await numbers(sort_by="worker_id") == [1, 3, 2]
    assert await numbers(limit=0) == []
    assert await numbers(offset=10, limit=1) == []


@pytest.fixture
async def planned(store: Store, make_span: MakeSpan) -> agl.AttemptedRollout:
    """An attempt with a plan, a step of it and a call within that."""
    started = await store.start_rollout("task")
    spans = [
        make_span(started, 10, name="plan", start_time=3.0),
        make_span(started, 20, name="plan-step", parent_id=f"{10:016x}", start_time=1.0),
        make_span(started, 30, name="call", parent_id=f"{20:016x}"),
    ]
    await store.add_many_spans(spans)
    return started


async def numbers_of(store: Store, rollout_id: str, **query: object) -> list[int]:
    return [span.sequence_id for span in await store.query_spans(rollout_id, **query)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"trace_id": f"{20:032x}"}, [20]),
        ({"trace_id_contains": f"{30:04x}"}, [30]),
        ({"span_id": f"{10:016x}"}, [10]),
        ({"span_id_contains": f"{20:04x}"}, [20]),
        ({"parent_id": f"{10:016x}"}, [20]),
        ({"parent_id_contains": f"{20:04x}"}, [30]),
        ({"name": "plan"}, [10]),
        ({"name_contains": "plan"}, [10, 20]),
        ({"name_contains": "plan", "parent_id": f"{10:016x}"}, [20]),
        ({"name_contains": "plan", "span_id": f"{30:016x}"}, []),
        ({"name": "plan", "span_id": f"{30:016x}", "filter_logic": "or"}, [10, 30]),
        ({"filter_logic": "or"}, [10, 20, 30]),
        ({"sort_by": "span_id", "sort_order": "desc"}, [30, 20, 10]),
        ({"sort_by": "start_time"}, [20, 10, 30]),
        ({"sort_by": "parent_id"}, [10, 20, 30]),
        ({"name_contains": "plan", "sort_order": "desc", "limit": 1, "offset": 1}, [10]),
        ({"limit": 0}, []),
    ],
)
async def test_spans_are_filtered_sorted_and_paged(
    store: Store, planned: agl.AttemptedRollout, query: dict[str, object], expected: list[int]
) -> None:
    assert await numbers_of(store, planned.rollout_id, **query) == expected


async def test_a_page_of_spans_knows_how_many_match(store: Store, planned: agl.AttemptedRollout) -> None:
    page = await store.query_spans(planned.rollout_id, name_contains="plan", limit=1)
    assert (page.limit, page.offset, page.total) == (1, 0, 2)


async def test_spans_are_of_one_attempt_whatever_else_will_do(
    store: Store, planned: agl.AttemptedRollout, make_span: MakeSpan
) -> None:
    again = await store.start_attempt(planned.rollout_id)
    await store.add_span(make_span(again, 40, name="plan"))
    assert await numbers_of(store, planned.rollout_id) == [10, 20, 30, 40]
    assert await numbers_of(store, planned.rollout_id, attempt_id="latest") == [40]
    assert await numbers_of(store, planned.rollout_id, attempt_id="at-unknown") == []
    either = {"name": "plan", "span_id": f"{40:016x}", "filter_logic": "or"}
    assert await numbers_of(store, planned.rollout_id, attempt_id=planned.attempt.attempt_id, **either) == [10]


async def test_resources_are_filtered_sorted_and_paged(store: Store) -> None:
    stem = f"{store.queue}-"
    for name in ("b", "a", "c", "a"):
        await store.update_resources(stem + name, {"prompt": name})

    async def found(**query: object) -> list[tuple[str, int]]:
        page = await store.query_resources(resources_id_contains=stem, **query)  # type: ignore[arg-type]
        return [(resources.resources_id.removeprefix(stem), resources.version) for resources in page]

    assert await found() == [("b", 1), ("c", 1), ("a", 2)]
    assert await found(all_versions=True) == [("b", 1), ("a", 1), ("c", 1), ("a", 2)]
    assert await found(resources_id=f"{stem}a") == [("a", 2)]
    assert await found(resources_id=f"{stem}a", all_versions=True) == [("a", 1), ("a", 2)]
    assert await found(sort_by="resources_id", sort_order="desc", limit=1, offset=1) == [("b", 1)]
    assert (await store.query_resources(resources_id_contains=stem, limit=1)).total == 3


async def test_workers_are_filtered_sorted_and_paged(store: Store) -> None:
    stem = f"{store.queue}-"
    for name in ("b", "a", "c"):
        await store.update_worker(stem + name, {})
    await store.start_rollout("task", worker_id=f"{stem}b")

    async def found(contains: str = stem, **query: object) -> list[str]:
        page = await store.query_workers(worker_id_contains=contains, **query)  # type: ignore[arg-type]
        return [worker.worker_id.removeprefix(stem) for worker in page]

    assert await found() == ["a", "b", "c"]
    assert await found(status_in=["busy"]) == ["b"]
    assert await found(status_in=[]) == []
    assert await found(sort_by="worker_id", sort_order="desc", limit=1, offset=1) == ["b"]
    assert await found(sort_by="current_rollout_id", sort_order="desc", limit=1) == ["b"]
    assert await found(f"{stem}a", status_in=["busy"]) == []
    assert {"a", "b"} <= set(await found(f"{stem}a", status_in=["busy"], filter_logic="or"))
    assert (await store.query_workers(worker_id_contains=stem, limit=1)).total == 3


async def test_rollouts_are_found_by_their_queue(store: Store) -> None:
    run = await store.create_run("x")
    ids = [(await store.bind(run_id=run.run_id, queue=queue).enqueue_rollout(0)).rollout_id for queue in ("q1", "q2")]
    assert ids_of(await store.bind(run_id=run.run_id).query_rollouts(queue="q2")) == ids[1:]


async def test_rollouts_come_one_by_one_across_pages(run_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentlightning.store.pages.PAGE", 2)
    ids = ids_of([await run_store.enqueue_rollout(number, mode="val") for number in range(5)])
    await run_store.cancel_rollouts(ids[:1])
    assert [rollout.rollout_id async for rollout in run_store.iter_rollouts()] == ids
    found = run_store.iter_rollouts(status_in=["queuing"], mode="val", sort_order="desc")
    assert [rollout.rollout_id async for rollout in found] == ids[:0:-1]
    assert [rollout async for rollout in run_store.iter_rollouts(status_in=[])] == []
