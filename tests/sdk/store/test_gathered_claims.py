"""Workers of one process that ask for work while others ask go together as the next call, each with its own rollout."""

import asyncio
from collections.abc import Sequence
from typing import Any

import agentlightning as agl
import grpc
import pytest
from agentlightning.store.connection import run
from agentlightning.store.gathering import claims_of
from agentlightning.v1 import store_service_pb2 as pb

WORKERS = ["w-1", "w-2", "w-3"]
Claims = list[asyncio.Task[agl.AttemptedRollout | None]]


def claim(client: agl.LightningStoreClient, *workers: str) -> Claims:
    return [asyncio.create_task(client.dequeue_rollout(worker)) for worker in workers]


async def handed_over() -> None:
    """The client has heard of whatever it was told before."""
    await asyncio.create_task(run(asyncio.sleep(0)))


async def waiting_behind_a_first(relay: Any, workers: Sequence[str] = WORKERS) -> Claims:
    """Workers whose claims the client has, while the call of worker w-0 is on its way."""
    callers = claim(relay.client, "w-0")
    await relay.call_comes()
    callers += claim(relay.client, *workers)
    await handed_over()
    return callers


async def in_one_call(relay: Any) -> Claims:
    """Workers whose claims are on their way together, after the call of worker w-0 has been answered."""
    callers = await waiting_behind_a_first(relay)
    relay.let_pass(1)
    await callers[0]
    await relay.call_comes()
    return callers


async def enqueue(store: agl.LightningStoreClient, count: int, **fields: Any) -> list[agl.Rollout]:
    return await store.enqueue_many_rollouts([agl.EnqueueRolloutRequest(input=n, **fields) for n in range(count)])


def worker_of(claimed: agl.AttemptedRollout | None) -> str | None:
    return claimed and claimed.attempt.worker_id


def asked_for(relay: Any) -> list[list[str]]:
    return [list(call.worker_ids) for call in relay.calls]


async def test_workers_that_ask_while_a_call_is_on_its_way_go_as_the_next(
    claim_relay: Any, store: agl.LightningStoreClient
) -> None:
    await enqueue(store, 4)
    callers = await waiting_behind_a_first(claim_relay)
    claim_relay.let_pass()
    await asyncio.gather(*callers)
    assert asked_for(claim_relay) == [["w-0"], WORKERS]


async def test_each_worker_gets_a_rollout_of_its_own(claim_relay: Any, store: agl.LightningStoreClient) -> None:
    await enqueue(store, 4)
    callers = await waiting_behind_a_first(claim_relay)
    claim_relay.let_pass()
    claimed = await asyncio.gather(*callers)
    assert [(worker_of(one), one and one.input) for one in claimed] == [("w-0", 0), ("w-1", 1), ("w-2", 2), ("w-3", 3)]


async def test_where_there_are_fewer_rollouts_than_workers_the_last_get_none(
    claim_relay: Any, store: agl.LightningStoreClient
) -> None:
    await enqueue(store, 3)
    callers = await waiting_behind_a_first(claim_relay)
    claim_relay.let_pass()
    assert [worker_of(one) for one in await asyncio.gather(*callers)] == ["w-0", "w-1", "w-2", None]


async def test_where_there_are_no_rollouts_all_get_none(claim_relay: Any) -> None:
    callers = await waiting_behind_a_first(claim_relay)
    claim_relay.let_pass()
    assert await asyncio.gather(*callers) == [None] * 4


async def test_who_asks_alone_waits_for_nobody(claim_relay: Any, store: agl.LightningStoreClient) -> None:
    await enqueue(store, 3)
    claim_relay.let_pass()
    for worker in WORKERS:
        await claim_relay.client.dequeue_rollout(worker)
    assert asked_for(claim_relay) == [[worker] for worker in WORKERS]


async def test_workers_without_a_name_are_asked_for_together(claim_relay: Any, store: agl.LightningStoreClient) -> None:
    await enqueue(store, 3)
    callers = await waiting_behind_a_first(claim_relay, ["", ""])
    claim_relay.let_pass()
    assert [one and one.input for one in await asyncio.gather(*callers)] == [0, 1, 2]


@pytest.mark.parametrize("fields", [{"wait_seconds": 30.0}, {"limit": 2}])
async def test_who_waits_for_work_or_wants_several_asks_for_itself(
    claim_relay: Any, store: agl.LightningStoreClient, fields: dict[str, Any]
) -> None:
    await enqueue(store, 3)
    first = claim(claim_relay.client, "w-0")
    await claim_relay.call_comes()
    other = asyncio.create_task(claim_relay.client.dequeue_many_rollouts(worker_id="w-1", **fields))
    await claim_relay.call_comes()  # though nothing has passed
    claim_relay.let_pass()
    await asyncio.gather(*first, other)
    assert [(call.worker_id, list(call.worker_ids)) for call in claim_relay.calls] == [("", ["w-0"]), ("w-1", [])]


async def test_workers_of_different_queues_ask_apart(claim_relay: Any) -> None:
    elsewhere = claim_relay.client.bind(queue=f"{claim_relay.client.queue}-2")
    callers = claim(claim_relay.client, "w-0")
    await claim_relay.call_comes()
    callers += claim(elsewhere, "w-1")
    await claim_relay.call_comes()  # though nothing has passed
    claim_relay.let_pass()
    await asyncio.gather(*callers)
    assert [call.queue for call in claim_relay.calls] == [claim_relay.client.queue, elsewhere.queue]


async def test_who_is_cancelled_before_its_call_is_not_asked_for(
    claim_relay: Any, store: agl.LightningStoreClient
) -> None:
    await enqueue(store, 4)
    callers = await waiting_behind_a_first(claim_relay)
    callers[2].cancel()
    await asyncio.wait([callers[2]])
    await handed_over()
    claim_relay.let_pass()
    await asyncio.gather(callers[1], callers[3])
    assert asked_for(claim_relay) == [["w-0"], ["w-1", "w-3"]]


async def cancelled_on_its_way(relay: Any) -> Claims:
    """Three claims of one call, the second of which was cancelled before the call was answered."""
    _, *callers = await in_one_call(relay)
    callers[1].cancel()
    await asyncio.wait([callers[1]])
    await handed_over()
    relay.let_pass()
    return callers


async def test_who_is_cancelled_while_its_call_is_on_its_way_has_its_rollout_given_back(
    claim_relay: Any, store: agl.LightningStoreClient
) -> None:
    await enqueue(store, 4)
    await cancelled_on_its_way(claim_relay)
    await claim_relay.attempts_are_released()
    again = await store.dequeue_rollout()
    assert again is not None
    assert again.input == 2


async def test_what_is_given_back_for_who_was_cancelled_costs_no_attempt_and_no_redelivery(
    claim_relay: Any, store: agl.LightningStoreClient
) -> None:
    twice = agl.RolloutConfig(max_attempts=2, max_redeliveries=0, retry_condition=["failed"])
    await enqueue(store, 4, config=twice)
    await cancelled_on_its_way(claim_relay)
    await claim_relay.attempts_are_released()
    again = await store.dequeue_rollout()
    assert again is not None
    failed = await store.complete_attempt(
        again.rollout_id, again.attempt.attempt_id, failure=agl.Failure(kind="agent", message="no")
    )
    assert failed.status == "requeuing"


async def test_who_is_cancelled_leaves_the_others_theirs(claim_relay: Any, store: agl.LightningStoreClient) -> None:
    await enqueue(store, 4)
    first, _, last = await cancelled_on_its_way(claim_relay)
    await claim_relay.attempts_are_released()
    for claimed, number in ((await first, 1), (await last, 3)):
        assert claimed is not None
        assert claimed.input == number
        ended = await store.complete_attempt(claimed.rollout_id, claimed.attempt.attempt_id)
        assert ended.status == "succeeded"


async def test_who_is_cancelled_with_its_answer_at_hand_has_its_rollout_given_back(
    claim_relay: Any, store: agl.LightningStoreClient
) -> None:
    await enqueue(store, 2)
    claim_relay.let_pass()

    async def take_the_second_away() -> bool:
        """On the gRPC thread, where both hear their answers in one turn of the loop."""
        claims = claims_of(claim_relay.client.server_address, 10, store.queue or "")
        asked = [
            pb.DequeueRolloutsRequest(worker_id=worker, queue=store.queue, request_id=f"{worker} of {store.queue}")
            for worker in WORKERS[:2]
        ]
        second = asyncio.create_task(claims.ask(asked[1:]))
        await claims.ask(asked[:1])
        second.cancel()
        await asyncio.wait([second])
        return second.cancelled()

    assert await run(take_the_second_away())
    await claim_relay.attempts_are_released()
    again = await store.dequeue_rollout()
    assert again is not None
    assert again.input == 1


async def test_a_call_whose_answer_is_lost_is_repeated_as_it_was_though_somebody_is_gone(
    claim_relay: Any, store: agl.LightningStoreClient
) -> None:
    await enqueue(store, 4)
    callers = await in_one_call(claim_relay)
    claim_relay.loses = [grpc.StatusCode.UNAVAILABLE]
    callers[2].cancel()
    await asyncio.wait([callers[2]])
    await handed_over()
    claim_relay.let_pass()
    await asyncio.gather(callers[1], callers[3])
    _, call, repeat = claim_relay.calls
    assert call.request_id
    assert call == repeat


async def test_a_repeat_gives_each_worker_what_the_first_call_claimed(
    claim_relay: Any, store: agl.LightningStoreClient
) -> None:
    await enqueue(store, 8)
    _, *callers = await in_one_call(claim_relay)
    claim_relay.loses = [grpc.StatusCode.UNAVAILABLE]
    claim_relay.let_pass()
    claimed = await asyncio.gather(*callers)
    assert [(worker_of(one), one and one.input) for one in claimed] == [("w-1", 1), ("w-2", 2), ("w-3", 3)]


async def test_a_repeat_claims_nothing_twice(claim_relay: Any, store: agl.LightningStoreClient) -> None:
    await enqueue(store, 8)
    _, *callers = await in_one_call(claim_relay)
    claim_relay.loses = [grpc.StatusCode.UNAVAILABLE]
    claim_relay.let_pass()
    await asyncio.gather(*callers)
    assert (await store.statistics())["queued"][store.queue or ""] == 4


async def test_a_worker_whose_rollout_is_lost_before_the_repeat_takes_no_others(
    claim_relay: Any, store: agl.LightningStoreClient
) -> None:
    enqueued = await enqueue(store, 8)
    _, *callers = await in_one_call(claim_relay)
    claim_relay.loses = [grpc.StatusCode.UNAVAILABLE]
    claim_relay.let_pass(1)
    await claim_relay.call_comes()
    await store.cancel_rollouts([enqueued[1].rollout_id])
    claim_relay.let_pass()
    told = await asyncio.gather(*callers)
    assert [(worker_of(one), one and one.input) for one in told] == [("w-1", 4), ("w-2", 2), ("w-3", 3)]


async def test_who_asks_alone_after_a_call_that_failed_for_all_is_answered(
    claim_relay: Any, store: agl.LightningStoreClient
) -> None:
    await enqueue(store, 8)
    _, *callers = await in_one_call(claim_relay)
    claim_relay.loses = [grpc.StatusCode.UNIMPLEMENTED]
    claim_relay.let_pass()
    assert [worker_of(one) for one in await asyncio.gather(*callers)] == ["w-1", "w-2", "w-3"]


async def test_more_than_one_answer_holds_is_claimed_all_the_same(
    claim_relay: Any, store: agl.LightningStoreClient
) -> None:
    workers = [f"w-{number}" for number in range(1, 17)]
    large = [agl.EnqueueRolloutRequest(input="x" * 200_000) for _ in range(17)]
    await store.enqueue_many_rollouts(large)
    callers = await waiting_behind_a_first(claim_relay, workers)
    claim_relay.let_pass()
    assert [worker_of(one) for one in await asyncio.gather(*callers)] == ["w-0", *workers]
