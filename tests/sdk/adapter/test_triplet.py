"""Triplets: which calls become one, what is in it, and whose a reward is."""

import json
from collections.abc import Sequence
from typing import Any

import agentlightning as agl
import pytest

SAID: dict[str, Any] = {"gen_ai.prompt.0.content": "Which room?", "gen_ai.completion.0.content": "A103"}
TOKENS: dict[str, Any] = {"prompt_token_ids": [1, 2], "response_token_ids": [3]}


class Trace:
    """Spans with an id, a sequence and a time; each is named by what it is for."""

    def __init__(self) -> None:
        self.spans: list[agl.Span] = []

    def span(
        self,
        name: str = "work",
        at: tuple[float, float] | None = None,
        under: agl.Span | None = None,
        **attributes: Any,
    ) -> agl.Span:
        number = len(self.spans) + 1
        start, end = at or (number, number + 0.5)
        named = {name.replace("__", "."): value for name, value in attributes.items()}
        span = agl.Span.from_attributes(
            attributes=named,
            name=name,
            sequence_id=number,
            span_id=f"{number:016x}",
            parent_id=under.span_id if under else None,
            start_time=start,
            end_time=end,
        )
        self.spans.append(span)
        return span

    def call(
        self, name: str = "openai.chat.completion", at: Any = None, under: Any = None, **attributes: Any
    ) -> agl.Span:
        span = self.span(name, at, under, **attributes)
        span.attributes |= SAID | {"gen_ai.response.id": f"r{span.sequence_id}"}
        return span

    def reward(self, value: float, at: Any = None, under: Any = None) -> agl.Span:
        span = self.span("agentlightning.annotation", at, under)
        span.attributes = {"agentlightning.reward.0.name": "primary", "agentlightning.reward.0.value": value}
        return span

    def rewards(self, **parameters: Any) -> list[float | None]:
        return [triplet.reward for triplet in agl.TracerTraceToTriplet(**parameters).adapt(self.spans)]

    def reasons(self, **parameters: Any) -> list[str]:
        explained = agl.TracerTraceToTriplet(**parameters).explain(self.spans)
        return [explanation.reason for explanation in explained if not explanation.used]


@pytest.fixture
def trace() -> Trace:
    return Trace()


def used(explanations: Sequence[agl.Explanation[Any]]) -> list[int]:
    return [explanation.span.sequence_id for explanation in explanations if explanation.used]


def test_no_spans_give_no_triplets() -> None:
    assert agl.TracerTraceToTriplet().adapt([]) == []
    assert agl.LlmProxyTraceToTriplet().adapt([]) == []


def test_a_triplet_has_tokens_words_and_where_they_are_from(trace: Trace) -> None:
    trace.call().attributes |= TOKENS | {
        "gen_ai.request.model": "small",
        "gen_ai.request.functions.0.name": "look",
        "gen_ai.completion.0.finish_reason": "stop",
    }
    trace.reward(0.5)
    (triplet,) = agl.TracerTraceToTriplet().adapt(trace.spans)
    assert triplet == agl.Triplet(
        prompt={
            "token_ids": [1, 2],
            "raw_content": [{"role": "user", "content": "Which room?"}],
            "image_urls": [],
        },
        response={"token_ids": [3], "raw_content": [{"role": "assistant", "content": "A103"}]},
        reward=0.5,
        metadata={
            "request": {"model": "small", "functions": [{"name": "look"}]},
            "response": {"id": "r1"},
            "response_id": "r1",
            "finish_reasons": ["stop"],
            "agent_name": None,
        },
    )


def test_images_and_log_probabilities_are_given(trace: Trace) -> None:
    parts = [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "http://a/b"}}]
    trace.call().attributes |= {"gen_ai.prompt.0.content": json.dumps(parts), "logprobs.content": '[{"logprob": -1}]'}
    (triplet,) = agl.TracerTraceToTriplet().adapt(trace.spans)
    assert triplet.prompt["image_urls"] == ["http://a/b"]
    assert triplet.response["logprobs"] == [{"logprob": -1}]


def test_whoever_recorded_a_call_it_counts_unless_its_name_must_match(trace: Trace) -> None:
    trace.call("openai.chat.completion")
    trace.call("chat gpt-4")
    assert used(agl.TracerTraceToTriplet().explain(trace.spans)) == [1, 2]
    assert trace.reasons(llm_call_match=r"openai\.chat") == ["its name does not match llm_call_match='openai\\\\.chat'"]


def test_a_call_belongs_to_the_nearest_agent_around_it(trace: Trace) -> None:
    writer = trace.span(at=(0, 9), agent__name="writer")
    trace.call(under=writer)
    critic = trace.span(at=(3, 8), under=writer, gen_ai__agent__name="critic")
    trace.call(under=critic)
    triplets = agl.TracerTraceToTriplet().adapt(trace.spans)
    assert [triplet.metadata["agent_name"] for triplet in triplets] == ["writer", "critic"]
    assert trace.reasons(agent_match="writ") == ["its agent is critic, which does not match agent_match='writ'"]


def test_a_call_without_an_agent_matches_none(trace: Trace) -> None:
    trace.call()
    assert trace.reasons(agent_match=".*") == ["its agent is none, which does not match agent_match='.*'"]


@pytest.mark.parametrize(
    "attributes",
    [
        {"agentops.span.kind": "agent", "operation.name": "a"},
        {"agentops.span.kind": "AgentOpsSpanKindValues.AGENT", "operation.name": "a"},
        {"recipient_agent_type": "a"},
        {"langchain.chain.type": "a"},
        {"executor.id": "a"},
        {"type": "agent", "agentlightning.operation.input.name": "a"},
    ],
)
def test_agents_of_several_frameworks_are_known(trace: Trace, attributes: dict[str, Any]) -> None:
    agent = trace.span()
    agent.attributes = attributes
    trace.call(under=agent)
    assert agl.TracerTraceToTriplet().adapt(trace.spans)[0].metadata["agent_name"] == "a"


def test_a_call_that_finds_a_reward_is_passed_over_unless_asked_for(trace: Trace) -> None:
    grading = trace.reward(1.0, at=(0, 9))
    trace.call(under=trace.span(at=(1, 8), under=grading))
    assert trace.reasons() == ["it was called to find a reward"]
    assert trace.reasons(exclude_llm_call_in_reward=False) == []


def test_an_operation_can_be_named_as_one_that_finds_a_reward(trace: Trace) -> None:
    grading = trace.span("agentlightning.operation", at=(0, 9), agentlightning__operation__name="agentlightning.reward")
    trace.call(under=grading)
    assert trace.reasons() == ["it was called to find a reward"]


def test_a_call_that_failed_is_passed_over_with_what_went_wrong_however_far_it_got(trace: Trace) -> None:
    trace.call().status = agl.TraceStatus(status_code="ERROR", description="APIError: overloaded")
    assert trace.reasons() == ["the call failed: APIError: overloaded"]


def test_a_call_without_an_answer_is_passed_over(trace: Trace) -> None:
    trace.span(gen_ai__prompt__0__content="x")
    assert trace.reasons() == ["no answer was recorded; does the instrumentation capture content?"]


def test_missing_token_ids_are_said_and_can_be_required(trace: Trace) -> None:
    trace.call()
    assert agl.TracerTraceToTriplet().explain(trace.spans)[0].reason == "no token ids, no reward"
    assert trace.reasons(require_token_ids=True) == [
        "no token ids of the prompt and response: the model's server returned none"
    ]


@pytest.mark.parametrize("ids", ["[1, 2", [1.5], ["1"], {"a": 1}, 7, True])
def test_token_ids_that_are_none_raise_nothing(trace: Trace, ids: Any) -> None:
    trace.call().attributes |= {"prompt_token_ids": ids, "response_token_ids": ids}
    (triplet,) = agl.TracerTraceToTriplet().adapt(trace.spans)
    assert triplet.prompt["token_ids"] == triplet.response["token_ids"] == []


def test_a_reward_belongs_to_the_latest_call_before_it_that_has_none(trace: Trace) -> None:
    trace.call()
    trace.reward(0.1)
    trace.call()
    trace.call()
    trace.reward(0.3)
    trace.reward(0.2)
    trace.reward(0.9)
    assert trace.rewards() == [0.1, 0.2, 0.3]


def test_a_reward_does_not_belong_to_a_call_that_has_not_ended(trace: Trace) -> None:
    trace.call(at=(0, 2))
    trace.call(at=(1, 9))
    trace.reward(1.0, at=(3, 3))
    assert trace.rewards() == [1.0, None]


def test_the_clock_of_another_process_is_not_compared(trace: Trace) -> None:
    trace.call(at=(100, 101)).resource = agl.OtelResource(attributes={"service.name": "proxy"})
    trace.reward(1.0, at=(3, 3))
    assert trace.rewards() == [1.0]


def test_a_reward_of_another_attempt_belongs_to_nobody(trace: Trace) -> None:
    trace.call().attempt_id = "at-1"
    trace.reward(1.0).attempt_id = "at-2"
    assert trace.rewards() == [None]


def test_a_reward_can_be_kept_to_the_calls_beside_it(trace: Trace) -> None:
    root = trace.span(at=(0, 100))
    step = trace.span(at=(1, 90), under=root)
    trace.call(under=step)
    trace.call(under=root)
    trace.reward(1.0, under=step)
    assert trace.rewards(repair_hierarchy=False) == [None, 1.0]
    assert trace.rewards(repair_hierarchy=False, reward_match="first_sibling") == [1.0, None]


def test_a_reward_goes_to_no_call_that_was_dropped(trace: Trace) -> None:
    trace.call()
    trace.span(gen_ai__prompt__0__content="failed")
    trace.reward(1.0)
    assert trace.rewards() == [1.0]


def test_what_hangs_under_the_root_is_put_where_its_time_is(trace: Trace) -> None:
    root = trace.span(at=(0, 100))
    trace.span(at=(1, 90), under=root, agent__name="outer")
    trace.span(at=(2, 50), under=root, agent__name="inner")
    trace.call(at=(3, 4), under=root)
    names = [
        agl.TracerTraceToTriplet(repair_hierarchy=repair).adapt(trace.spans)[0].metadata["agent_name"]
        for repair in (True, False)
    ]
    assert names == ["inner", None]


def test_a_call_that_runs_at_the_same_time_encloses_nothing(trace: Trace) -> None:
    root = trace.span(at=(0, 100))
    trace.call(at=(1, 50), under=root)
    trace.span(at=(2, 3), under=root, gen_ai__operation__name="chat").attributes |= SAID
    assert used(agl.TracerTraceToTriplet().explain(trace.spans)) == [2, 3]


def test_spans_without_times_stay_where_they_are(trace: Trace) -> None:
    for span in (trace.span(), trace.call()):
        span.start_time = span.end_time = None
    assert len(agl.TracerTraceToTriplet().adapt(trace.spans)) == 1


def test_a_proxy_gives_tokens_and_the_rewards_after_them(trace: Trace) -> None:
    for provider in ("hosted_vllm", "openai_like"):
        span = trace.span("raw_gen_ai_request")
        span.attributes = {
            f"llm.{provider}.prompt_token_ids": "[1, 2]",
            f"llm.{provider}.choices": "[{'token_ids': [3], 'index': 0}]",
            f"llm.{provider}.id": f"of-{provider}",
        }
        trace.reward(len(trace.spans))
    triplets = agl.LlmProxyTraceToTriplet().adapt(trace.spans)
    assert [triplet.reward for triplet in triplets] == [1, 3]
    assert triplets[0].model_dump() == {
        "prompt": {"token_ids": [1, 2]},
        "response": {"token_ids": [3]},
        "reward": 1,
        "metadata": {"response_id": "of-hosted_vllm"},
    }


def test_a_proxy_s_call_without_token_ids_is_dropped_and_says_so(trace: Trace) -> None:
    trace.call("litellm_request")
    (explanation,) = agl.LlmProxyTraceToTriplet().explain(trace.spans)
    assert not explanation.used
    assert explanation.reason == "no token ids of the prompt and response: the model's server returned none"


def test_two_spans_of_a_proxy_for_one_call_are_one_triplet(trace: Trace) -> None:
    for name in ("litellm_request", "raw_gen_ai_request"):
        trace.span(name).attributes = TOKENS | {"gen_ai.response.id": "r"}
    assert used(agl.LlmProxyTraceToTriplet().explain(trace.spans)) == [1]


def test_a_span_of_another_attempt_encloses_nothing(trace: Trace) -> None:
    trace.span(at=(0, 100), agent__name="first").attempt_id = "at-1"
    trace.call(at=(3, 4)).attempt_id = "at-2"
    assert agl.TracerTraceToTriplet().adapt(trace.spans)[0].metadata["agent_name"] is None
