"""What the adapters make of a rollout that a runner ran and the store kept."""

from collections.abc import Iterator
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.testing import ChatReply, ChatRequest, OpenAIServer
from openai import OpenAI

LOOK: Any = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def reply(request: ChatRequest) -> ChatReply:
    if request.messages[-1]["role"] == "tool":
        return ChatReply("It is blue.")
    return ChatReply("Let me look.", [("look", {"at": "the sky"})])


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(reply) as server:
        yield server


@pytest.fixture
async def spans(store: agl.LightningStoreClient, server: OpenAIServer) -> list[agl.Span]:
    def agent(task: str) -> float:
        with OpenAI(api_key="any", base_url=server.base_url) as client:
            messages: list[Any] = [{"role": "user", "content": task}]
            asked = client.chat.completions.create(model="m", messages=messages, tools=[LOOK]).choices[0].message
            agl.emit_reward(0.25)
            call = (asked.tool_calls or [])[0]
            messages += [asked, {"role": "tool", "tool_call_id": call.id, "content": "blue"}]
            client.chat.completions.create(model="m", messages=messages, tools=[LOOK])
        return 1.0

    queued = await store.enqueue_rollout("What colour?")
    runner = agl.LitAgentRunner[Any](max_rollouts=1)
    with runner.run_context(agent=agent, store=store):
        await runner.iter()
    return list(await store.query_spans(queued.rollout_id, "latest"))


async def test_each_call_is_a_triplet_with_its_reward(spans: list[agl.Span]) -> None:
    triplets = agl.TracerTraceToTriplet().require(spans)
    assert [triplet.reward for triplet in triplets] == [0.25, 1.0]
    assert [triplet.response["raw_content"][0]["content"] for triplet in triplets] == ["Let me look.", "It is blue."]


async def test_the_last_conversation_holds_the_whole_of_it(spans: list[agl.Span]) -> None:
    conversation = agl.TraceToMessages().adapt(spans)[-1]
    assert conversation["tools"] == [LOOK]
    assert [(message["role"], message["content"]) for message in conversation["messages"]] == [
        ("user", "What colour?"),
        ("assistant", "Let me look."),
        ("tool", "blue"),
        ("assistant", "It is blue."),
    ]
    assert conversation["messages"][1]["tool_calls"][0]["function"] == {
        "name": "look",
        "arguments": '{"at": "the sky"}',
    }


async def test_the_calls_of_a_judge_are_not_the_agents(store: agl.LightningStoreClient, server: OpenAIServer) -> None:
    def ask(text: str) -> None:
        with OpenAI(api_key="any", base_url=server.base_url) as client:
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])

    @agl.reward
    def judge(answer: str) -> float:
        ask(f"Is this right? {answer}")
        return 0.5

    def agent(task: str) -> None:
        ask(task)
        judge("It is blue.")

    with agl.LitAgentRunner[Any]().run_context(agent=agent, store=store) as runner:
        rollout = await runner.step("What colour?")
    spans = await store.query_spans(rollout.rollout_id)
    explained = agl.TracerTraceToTriplet(reward_match=agl.RewardMatchPolicy.FIRST_SIBLING).explain(spans)
    assert [explanation.used for explanation in explained] == [True, False]
    assert explained[0].item is not None and explained[0].item.reward == 0.5
    assert explained[1].reason == "it was called to find a reward"
    assert rollout.final_reward == agl.find_final_reward(spans) == 0.5
