"""`agl explain` against a real store."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import agentlightning as agl
import pytest

Agl = Callable[..., Awaitable[Any]]

SAID = {"gen_ai.request.model": "small", "gen_ai.prompt.0.content": "Which room?"}
ANSWERED = {"gen_ai.completion.0.content": "A103", "prompt_token_ids": [1, 2], "response_token_ids": [3]}
REWARD = {"agentlightning.reward.0.name": "primary", "agentlightning.reward.0.value": 1.0}


async def rollout_of(store: agl.LightningStore, *spans: dict[str, Any]) -> str:
    """A rollout whose attempt has spans with these attributes."""
    rollout = await store.start_rollout("task")
    await store.complete_attempt(
        rollout.rollout_id,
        rollout.attempt.attempt_id,
        spans=[
            agl.Span.from_attributes(
                attributes=attributes,
                name="openai.chat.completion",
                rollout_id=rollout.rollout_id,
                attempt_id=rollout.attempt.attempt_id,
                sequence_id=number,
                start_time=float(number),
                end_time=float(number),
            )
            for number, attributes in enumerate(spans, 1)
        ],
    )
    return rollout.rollout_id


async def test_each_call_is_a_line_and_the_count_follows(store: agl.LightningStoreClient, command: Agl) -> None:
    rollout_id = await rollout_of(store, SAID | ANSWERED, REWARD, SAID)
    told = await command("explain", rollout_id)
    assert told.out.splitlines() == [
        "used     #1 openai.chat.completion small: 2 + 1 token ids, reward 1 of #2",
        "dropped  #3 openai.chat.completion small: no answer was recorded; does the instrumentation capture content?",
        "1 of 2 calls used by TracerTraceToTriplet",
    ]
    assert (told.status, told.err) == (0, "")


async def test_json_says_the_same(store: agl.LightningStoreClient, command: Agl) -> None:
    rollout_id = await rollout_of(store, SAID)
    told = await command("explain", rollout_id, "--json", "--adapter", "messages")
    answer = json.loads(told.out)
    assert (answer["rollout_id"], answer["adapter"]) == (rollout_id, "TraceToMessages")
    assert [(call["sequence_id"], call["used"], call["reason"]) for call in answer["calls"]] == [
        (1, True, "1 message, no answer")
    ]


@pytest.mark.parametrize(
    ("spans", "reason"),
    [
        ([], "0 of 0 calls used by TracerTraceToTriplet: no spans were recorded"),
        ([REWARD], "0 of 0 calls used by TracerTraceToTriplet: none of the 1 spans is a call of a model"),
        ([SAID], "0 of 1 calls used by TracerTraceToTriplet"),
    ],
)
async def test_when_nothing_is_used_it_says_why_and_fails(
    store: agl.LightningStoreClient, command: Agl, spans: list[dict[str, Any]], reason: str
) -> None:
    told = await command("explain", await rollout_of(store, *spans))
    assert told.out.splitlines()[-1].startswith(reason)
    assert told.status == 1


async def test_an_unknown_rollout_is_an_error_that_names_those_there_are(
    store: agl.LightningStoreClient, command: Agl
) -> None:
    known = await rollout_of(store)
    told = await command("explain", "ro-000000000000")
    assert told.status == 1
    assert "there is no rollout 'ro-000000000000'; the newest are: " in told.err
    assert known in told.err
