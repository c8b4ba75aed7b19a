"""Completions that come while others are on their way go together as the next call, each with its own answer."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import agentlightning as agl
import grpc
import pytest
from agentlightning.store.connection import connection_to, run
from agentlightning.v1 import store_service_pb2 as pb

MakeSpan = Callable[..., agl.Span]
Completions = list[asyncio.Task[agl.Rollout]]


def complete(client: agl.LightningStoreClient, of: agl.AttemptedRollout, **fields: Any) -> asyncio.Task[agl.Rollout]:
    return asyncio.create_task(client.complete_attempt(of.rollout_id, of.attempt.attempt_id, **fields))


async def started(store: agl.LightningStoreClient, count: int = 4) -> list[agl.AttemptedRollout]:
    return [await store.start_rollout("task") for _ in range(count)]


async def waiting_behind_a_first(
    relay: Any, attempts: Sequence[agl.AttemptedRollout], spans: Sequence[Sequence[agl.Span]] = ()
) -> Completions:
    """Callers whose completions the client has, while the first one's call is on its way.

    The others have these last spans, each its own.
    """
    first, *others = attempts
    callers = [complete(relay.client, first)]
    await relay.call_comes()
    own = [*spans, *[[]] * (len(others) - len(spans))]
    callers += [complete(relay.client, one, spans=last) for one, last in zip(others, own, strict=True)]
    await asyncio.create_task(run(asyncio.sleep(0)))  # whatever was handed over before has arrived
    return callers


def told(relay: Any) -> list[list[str]]:
    return [[one.attempt_id for one in call.attempts] for call in relay.calls]


def what_it_says(error: agl.StoreError) -> tuple[object, ...]:
    return type(error), str(error), error.code, error.reason, error.metadata


async def completed_alone(address: str, of: agl.AttemptedRollout) -> agl.StoreError:
    """Why the call that completes one attempt only is refused."""
    request = pb.CompleteAttemptRequest(
        rollout_id=of.rollout_id, attempt_id=of.attempt.attempt_id, succeeded=pb.CompleteAttemptRequest.Succeeded()
    )

    async def call() -> None:
        await connection_to(address).call("CompleteAttempt", request, retry_seconds=10)

    with pytest.raises(agl.StoreError) as refusal:
        await run(call())
    return refusal.value


async def test_what_comes_while_a_call_is_on_its_way_goes_as_the_next(
    claim_relay: Any, store: agl.LightningStoreClient
) -> None:
    attempts = await started(store)
    callers = await waiting_behind_a_first(claim_relay, attempts)
    claim_relay.let_pass()
    await asyncio.gather(*callers)
    first, *others = [one.attempt.attempt_id for one in attempts]
    assert told(claim_relay) == [[first], others]


async def test_each_caller_hears_of_its_own_rollout(claim_relay: Any, store: agl.LightningStoreClient) -> None:
    attempts = await started(store)
    callers = await waiting_behind_a_first(claim_relay, attempts)
    claim_relay.let_pass()
    ended = await asyncio.gather(*callers)
    assert [(one.rollout_id, one.status) for one in ended] == [(one.rollout_id, "succeeded") for one in attempts]


async def test_who_comes_alone_waits_for_nobody(claim_relay: Any, store: agl.LightningStoreClient) -> None:
    attempts = await started(store, 3)
    claim_relay.let_pass()
    for one in attempts:
        await complete(claim_relay.client, one)
    assert told(claim_relay) == [[one.attempt.attempt_id] for one in attempts]


async def test_who_has_lost_its_attempt_is_told_as_by_a_call_of_its_own(
    claim_relay: Any, store: agl.LightningStoreClient
) -> None:
    attempts = await started(store)
    await store.start_attempt(attempts[2].rollout_id)
    callers = await waiting_behind_a_first(claim_relay, attempts)
    claim_relay.let_pass()
    with pytest.raises(agl.AttemptLostError) as refusal:
        await callers[2]
    assert refusal.value.reason == "ATTEMPT_SUPERSEDED"
    assert refusal.value.metadata["attempt_id"] == attempts[2].attempt.attempt_id
    assert what_it_says(refusal.value) == what_it_says(await completed_alone(store.server_address, attempts[2]))
    await asyncio.wait(callers)


async def test_who_names_an_unknown_rollout_is_told_as_by_a_call_of_its_own(
    claim_relay: Any, store: agl.LightningStoreClient
) -> None:
    attempts = await started(store)
    attempts[2] = attempts[2].model_copy(update={"rollout_id": "ro-unknown"})
    callers = await waiting_behind_a_first(claim_relay, attempts)
    claim_relay.let_pass()
    with pytest.raises(agl.NotFoundError) as refusal:
        await callers[2]
    assert what_it_says(refusal.value) == what_it_says(await completed_alone(store.server_address, attempts[2]))
    await asyncio.wait(callers)


async def test_who_is_refused_stops_no_neighbour(claim_relay: Any, store: agl.LightningStoreClient) -> None:
    attempts = await started(store)
    await store.cancel_rollouts([attempts[2].rollout_id])
    callers = await waiting_behind_a_first(claim_relay, attempts)
    claim_relay.let_pass()
    _, before, refused, after = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(refused, agl.AttemptLostError)
    assert [one.status for one in (before, after) if isinstance(one, agl.Rollout)] == ["succeeded"] * 2


async def test_the_last_spans_of_each_come_with_it(
    claim_relay: Any, store: agl.LightningStoreClient, make_span: MakeSpan
) -> None:
    attempts = await started(store, 3)
    spans = [[make_span(one, number)] for number, one in enumerate(attempts[1:], 1)]
    callers = await waiting_behind_a_first(claim_relay, attempts, spans)
    claim_relay.let_pass()
    await asyncio.gather(*callers)
    stored = [await store.query_spans(one.rollout_id) for one in attempts[1:]]
    assert [[span.name for span in own] for own in stored] == [["span-1"], ["span-2"]]


async def test_no_call_takes_more_spans_than_the_store_does(
    claim_relay: Any, store: agl.LightningStoreClient, make_span: MakeSpan
) -> None:
    attempts = await started(store, 3)
    spans = [[make_span(one, number) for number in range(1, 601)] for one in attempts[1:]]
    callers = await waiting_behind_a_first(claim_relay, attempts, spans)
    claim_relay.let_pass()
    assert [one.status for one in await asyncio.gather(*callers)] == ["succeeded"] * 3
    assert [[len(one.spans) for one in call.attempts] for call in claim_relay.calls] == [[0], [600], [600]]


async def test_who_is_cancelled_later_leaves_the_others_their_answers(
    claim_relay: Any, store: agl.LightningStoreClient
) -> None:
    attempts = await started(store)
    callers = await waiting_behind_a_first(claim_relay, attempts)
    claim_relay.let_pass(1)
    await callers[0]
    await claim_relay.call_comes()
    callers[2].cancel()
    await asyncio.wait([callers[2]])
    claim_relay.let_pass()
    ended = await asyncio.gather(callers[1], callers[3])
    assert [one.rollout_id for one in ended] == [attempts[1].rollout_id, attempts[3].rollout_id]


async def repeated(relay: Any, attempts: Sequence[agl.AttemptedRollout]) -> list[agl.Rollout]:
    """What all hear but the first, when the answer to their call is lost and it is made again."""
    callers = await waiting_behind_a_first(relay, attempts)
    relay.let_pass(1)
    await callers[0]
    relay.loses = [grpc.StatusCode.UNAVAILABLE]
    relay.let_pass()
    return await asyncio.gather(*callers[1:])


async def test_a_call_whose_answer_is_lost_is_made_again(claim_relay: Any, store: agl.LightningStoreClient) -> None:
    await repeated(claim_relay, await started(store))
    _, call, repeat = claim_relay.calls
    assert call == repeat


async def test_a_repeat_is_answered_as_the_first_call(claim_relay: Any, store: agl.LightningStoreClient) -> None:
    attempts = await started(store)
    ended = await repeated(claim_relay, attempts)
    assert [(one.rollout_id, one.status) for one in ended] == [(one.rollout_id, "succeeded") for one in attempts[1:]]
