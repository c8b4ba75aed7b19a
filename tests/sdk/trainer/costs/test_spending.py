"""What a run spends on models, and what is said where that cannot be known."""

import asyncio

import agentlightning as agl
import pytest
from agentlightning.adapter import Usage
from agentlightning.trainer.costs.spending import SpendingReader, cost_of, usage_of_summary

PRICES = {"m": (0.4, 1.6)}


def test_a_cost_is_of_a_million_tokens_in_and_out() -> None:
    assert cost_of({"m": Usage(3, 1_000_000, 500_000)}, PRICES) == pytest.approx(0.4 + 0.8)


def test_the_cost_is_unknown_when_a_model_has_no_price() -> None:
    assert cost_of({"m": Usage(1, 1, 1), "other": Usage(1, 1, 1)}, PRICES) is None


def test_the_cost_is_unknown_when_a_call_does_not_say_what_it_used() -> None:
    assert cost_of({"m": Usage(1, unmeasured_calls=1)}, PRICES) is None


def test_nothing_called_costs_nothing() -> None:
    assert cost_of({}, {}) == 0


@pytest.mark.parametrize("price", [1.0, (1.0,), ("1", "2"), (1.0, -1.0), (float("nan"), 1.0)])
def test_a_price_that_is_none_is_refused_by_its_model(price: object) -> None:
    with pytest.raises(ValueError, match=r"prices\['m'\] is .*expected two numbers"):
        agl.Trainer(prices={"m": price})  # type: ignore[dict-item]


def test_an_algorithm_tells_its_own_calls_in_its_summary() -> None:
    told = {"optimizer_tokens": {"m": {"calls": 2, "input_tokens": 30}}}
    assert usage_of_summary(told) == {"m": Usage(calls=2, input_tokens=30)}
    assert usage_of_summary({}) == {}


async def test_every_attempt_of_a_rollout_counts(store: agl.LightningStoreClient) -> None:
    call = {"gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 9, "gen_ai.usage.output_tokens": 2}
    rollout = await store.start_rollout("why?")
    for attempt_id in (rollout.attempt.attempt_id, (await store.start_attempt(rollout.rollout_id)).attempt.attempt_id):
        span = agl.Span.from_attributes(attributes=call, rollout_id=rollout.rollout_id, attempt_id=attempt_id)
        await store.add_span(span)
    reader = SpendingReader(store)
    reading = asyncio.create_task(reader.run())
    reader.add(rollout.rollout_id)
    await reader.is_done()
    reading.cancel()
    assert reader.usage == {"m": Usage(calls=2, input_tokens=18, output_tokens=4)}
    assert reader.by_rollout == {rollout.rollout_id: reader.usage}
