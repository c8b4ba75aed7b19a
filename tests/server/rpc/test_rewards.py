"""What of a span is a reward to the store: the attributes of this version and of those before it."""

from typing import Any

import pytest
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.span_pb2 import Attribute, AttributeMap, AttributeValue, Span

SAID = {"type": AttributeValue(string_value="reward"), "value": AttributeValue(int_value=1)}
ENTRIES = [Attribute(key=key, value=value) for key, value in SAID.items()]


async def final_reward(server: Any, name: str, key: str, value: AttributeValue) -> float | None:
    """The final reward of an attempt whose only span has this attribute."""
    started = await server.stub.StartRollout(pb.StartRolloutRequest(rollout={"input_json": "1"}))
    attempt = started.assignment.attempt
    ids = {"rollout_id": attempt.rollout_id, "attempt_id": attempt.attempt_id}
    span = Span(**ids, name=name, trace_id="1" * 32, span_id="1" * 16, attributes=[Attribute(key=key, value=value)])
    [result] = (await server.stub.AddSpans(pb.AddSpansRequest(spans=[span]))).results
    assert not result.error_reason
    rewarded = (await server.get(attempt.rollout_id)).latest_attempt
    return rewarded.final_reward if rewarded.HasField("final_reward") else None


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("any", "agentlightning.reward.0.value", AttributeValue(double_value=1.0)),
        ("any", "agentlightning.reward.0.value", AttributeValue(int_value=1)),
        ("any", "agentlightning.reward.0.value", AttributeValue(bool_value=True)),
        ("agentlightning.annotation", "reward", AttributeValue(int_value=1)),
        ("agentlightning.reward", "reward", AttributeValue(double_value=1.0)),
        ("any", "agentops.task.output", AttributeValue(string_value='{"type": "reward", "value": 1.0}')),
        ("any", "agentops.entity.output", AttributeValue(map_value=AttributeMap(entries=ENTRIES))),
    ],
)
async def test_a_reward_of_this_version_or_an_earlier_one_is_the_final_reward(
    server: Any, name: str, key: str, value: AttributeValue
) -> None:
    assert await final_reward(server, name, key, value) == 1.0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("agentlightning.reward.0.value", AttributeValue(string_value="1")),
        ("agentlightning.reward.1.value", AttributeValue(double_value=1.0)),
        ("agentlightning.reward.0.value", AttributeValue()),
        ("reward", AttributeValue(double_value=1.0)),
        ("agentops.task.output", AttributeValue(string_value='{"type": "answer", "value": "a reward"}')),
        ("agentops.task.output", AttributeValue(string_value='{"type": "reward", "value": ' + "9" * 400 + "}")),
        ("agentops.task.output", AttributeValue(string_value='{"type": "reward", "value": NaN}')),
        ("agentops.task.output", AttributeValue(string_value='{"reward": ' + "[" * 100_000)),
    ],
    ids=["text", "not the first", "nothing", "of any span", "no reward", "too large", "NaN", "deep"],
)
async def test_what_only_looks_like_a_reward_is_none(server: Any, key: str, value: AttributeValue) -> None:
    assert await final_reward(server, "any", key, value) is None
