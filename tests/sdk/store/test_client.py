"""The client against a real server: what users of the store can rely on."""

import asyncio
import os
import pickle
import threading
from dataclasses import dataclass

import agentlightning as agl
import pytest


async def test_an_enqueued_task_is_dequeued_completed_and_waited_for(store: agl.LightningStoreClient) -> None:
    enqueued = await store.enqueue_rollout({"question": "why?"}, mode="train", labels={"kind": "a"})
    assert (enqueued.status, enqueued.input, enqueued.mode) == ("queuing", {"question": "why?"}, "train")

    claimed = await store.dequeue_rollout(worker_id="Worker-0")
    assert claimed is not None
    assert (claimed.rollout_id, claimed.status, claimed.attempt.worker_id) == (
        enqueued.rollout_id,
        "preparing",
        "Worker-0",
    )

    await store.complete_attempt(claimed.rollout_id, claimed.attempt.attempt_id)
    [finished] = await store.wait_for_rollouts([enqueued.rollout_id], timeout=5)
    assert finished.status == "succeeded"
    assert finished.end_time is not None


async def test_a_waiting_dequeue_gets_what_is_enqueued_later(store: agl.LightningStoreClient) -> None:
    waiting = asyncio.create_task(store.dequeue_rollout(wait_seconds=20))
    enqueued = await store.enqueue_rollout("task")
    claimed = await waiting
    assert claimed is not None
    assert claimed.rollout_id == enqueued.rollout_id


async def test_an_empty_queue_gives_none(store: agl.LightningStoreClient) -> None:
    assert await store.dequeue_rollout() is None
    assert await store.dequeue_many_rollouts(limit=3) == []


async def test_spans_come_back_as_they_were_sent_in_sequence(store: agl.LightningStoreClient) -> None:
    started = await store.start_rollout("task")
    attributes = {
        "text": "a",
        "number": 1,
        "share": 0.5,
        "yes": True,
        "list": ["a", "b"],
        "map": {"k": [1, None]},
        "b": b"x",
    }
    ids = (started.rollout_id, started.attempt.attempt_id)
    spans = [
        agl.Span.from_attributes(
            attributes=attributes, rollout_id=ids[0], attempt_id=ids[1], sequence_id=number, name="s"
        )
        for number in (2, 1)
    ]
    assert len(await store.add_many_spans(spans)) == 2

    read = await store.query_spans(ids[0])
    assert [span.sequence_id for span in read] == [1, 2]
    assert read[0].attributes == attributes
    assert read[1].start_time == pytest.approx(spans[0].start_time)


async def test_a_span_sent_twice_is_stored_once(store: agl.LightningStoreClient) -> None:
    started = await store.start_rollout("task")
    span = agl.Span.from_attributes(attributes={}, rollout_id=started.rollout_id, attempt_id=started.attempt.attempt_id)
    assert await store.add_span(span) is not None
    assert await store.add_span(span) is None
    assert len(await store.query_spans(started.rollout_id)) == 1


async def test_a_span_of_an_unknown_attempt_is_refused_by_name(store: agl.LightningStoreClient) -> None:
    span = agl.Span.from_attributes(attributes={}, rollout_id="ro-000000000000", attempt_id="at-0000000000000000")
    with pytest.raises(agl.NotFoundError, match="ro-000000000000"):
        await store.add_span(span)


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


async def test_resources_are_versions_that_never_change(store: agl.LightningStoreClient) -> None:
    first = await store.add_resources({"prompt_template": "Hi {name}", "settings": {"k": 1}})
    second = await store.update_resources(first.resources_id, {"prompt_template": "Hello {name}"})
    assert (first.version, second.version) == (1, 2)

    kept = await store.get_resources_by_id(first.resources_id, version=1)
    assert kept is not None
    assert kept.resources["prompt_template"] == agl.PromptTemplate(template="Hi {name}")
    assert kept.resources["settings"] == agl.CustomResource(value={"k": 1})


async def test_resources_keep_the_order_they_were_given_in(store: agl.LightningStoreClient) -> None:
    written = await store.add_resources({"second": "b", "first": "a", "third": "c"})
    read = await store.get_resources_by_id(written.resources_id)
    assert read is not None
    assert list(read.resources) == ["second", "first", "third"]


async def test_a_rollout_pins_the_resources_it_was_enqueued_with(store: agl.LightningStoreClient) -> None:
    resources = await store.add_resources({"prompt_template": "one"})
    rollout = await store.enqueue_rollout("task", resources_id=resources.resources_id)
    await store.update_resources(resources.resources_id, {"prompt_template": "two"})
    assert (rollout.resources_id, rollout.resources_version) == (resources.resources_id, 1)


async def test_a_bound_store_finds_the_latest_resources_of_its_run_first(store: agl.LightningStoreClient) -> None:
    run = await store.create_run("APO")
    bound = store.bind(run_id=run.run_id, queue=run.queue)
    mine = await bound.add_resources({"prompt_template": "mine"})
    await store.add_resources({"prompt_template": "somebody else's"})
    latest = await bound.get_latest_resources()
    assert latest is not None
    assert latest.resources_id == mine.resources_id


async def test_two_queues_never_take_each_others_work(store: agl.LightningStoreClient) -> None:
    await store.enqueue_rollout("mine")
    assert await store.bind(queue="another").dequeue_rollout() is None
    assert await store.dequeue_rollout() is not None


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


async def test_waiting_tells_finished_from_unfinished_and_unknown(store: agl.LightningStoreClient) -> None:
    done = await store.start_rollout("done")
    await store.complete_attempt(done.rollout_id, done.attempt.attempt_id)
    open_ = await store.enqueue_rollout("open")
    finished = await store.wait_for_rollouts([open_.rollout_id, done.rollout_id, "ro-unknown"], timeout=0)
    assert [rollout.rollout_id for rollout in finished] == [done.rollout_id]


async def test_finished_rollouts_are_iterated_as_they_end(store: agl.LightningStoreClient) -> None:
    first, second = await store.start_rollout("a"), await store.start_rollout("b")
    seen = []
    await store.complete_attempt(second.rollout_id, second.attempt.attempt_id)
    async for rollout in store.iter_finished([first.rollout_id, second.rollout_id]):
        seen.append(rollout.rollout_id)
        if len(seen) == 1:
            await store.complete_attempt(first.rollout_id, first.attempt.attempt_id)
    assert seen == [second.rollout_id, first.rollout_id]


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


async def test_a_dataclass_is_a_task(store: agl.LightningStoreClient) -> None:
    @dataclass
    class Task:
        attendees: int

    assert (await store.enqueue_rollout(Task(4))).input == {"attendees": 4}


@pytest.mark.parametrize("task", [object(), float("nan"), {"x": float("inf")}])
async def test_a_task_that_json_cannot_say_is_refused_by_field(store: agl.LightningStoreClient, task: object) -> None:
    with pytest.raises(agl.InvalidRequestError, match="input"):
        await store.enqueue_rollout(task)


@pytest.mark.parametrize("address", ["localhost:x", "ftp://host:1", "", "http://host:1/path"])
def test_what_is_not_an_address_is_refused(address: str) -> None:
    with pytest.raises(agl.InvalidRequestError, match="expected host:port"):
        agl.LightningStoreClient(address)


@pytest.mark.parametrize("scheme", ["", "http://", "grpc://"])
async def test_every_spelling_of_an_address_connects(store_address: str, scheme: str) -> None:
    assert (await agl.LightningStoreClient(scheme + store_address).statistics())["total_rollouts"] >= 0


async def test_a_store_that_is_not_there_is_said_so() -> None:
    with pytest.raises(agl.StoreUnavailableError, match=r"no store answers at localhost:1 .*agl store"):
        await agl.LightningStoreClient("localhost:1", retry_seconds=0.2).statistics()


def test_a_client_outlives_event_loops(store_address: str) -> None:
    client = agl.LightningStoreClient(store_address)
    asyncio.run(client.statistics())
    asyncio.run(client.statistics())


async def test_a_client_works_from_threads(store: agl.LightningStoreClient) -> None:
    results: list[object] = []
    threads = [threading.Thread(target=lambda: results.append(asyncio.run(store.statistics()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert len(results) == 4


def test_a_client_is_pickled_as_its_address(store_address: str) -> None:
    client = agl.LightningStoreClient(store_address, queue="q", run_id="run-1")
    copy = pickle.loads(pickle.dumps(client))
    assert (copy.server_address, copy.queue, copy.run_id) == (store_address, "q", "run-1")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_a_client_starts_afresh_after_a_fork(store: agl.LightningStoreClient) -> None:
    await store.statistics()
    child = os.fork()
    if child == 0:
        try:
            from agentlightning.store.connection import is_in_use

            os._exit(1 if is_in_use() else 0)
        finally:
            os._exit(2)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


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


async def test_a_run_keeps_its_checkpoint_its_best_resources_and_why_it_failed(store: agl.LightningStoreClient) -> None:
    run = await store.create_run("APO", config={"rounds": 2})
    best = await store.add_resources({"prompt_template": "x"})
    failure = agl.Failure(kind="infrastructure", message="no disk")
    await store.update_run(run.run_id, checkpoint={"round": 1}, best_resources=best)
    await store.update_run(run.run_id, status="failed", failure=failure)
    read = await store.get_run(run.run_id)
    assert read is not None
    assert (read.config, read.checkpoint, read.best_resources_id) == ({"rounds": 2}, {"round": 1}, best.resources_id)
    assert (read.status, read.failure) == ("failed", failure)
    assert read.end_time is not None
