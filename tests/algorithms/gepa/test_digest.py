from typing import Any

import pytest
from agentlightning import Rollout, Span, TraceToMessages
from agentlightning.algorithm import Evaluation
from agentlightning.semconv import OPERATION_NAME, OPERATION_SPAN, PRIMARY_REWARD_VALUE, REWARD_PREFIX
from agentlightning.types import Failure
from agentlightning_algorithms.gepa.digest import conversations, example, shortened

ROLLOUT = Rollout(rollout_id="ro-1", input="why?", start_time=0, status="succeeded")


def call(question: str, answer: str, **where: Any) -> Span:
    attributes = {"gen_ai.prompt.0.content": question, "gen_ai.completion.0.content": answer}
    return Span.from_attributes(name="openai.chat.completion", attributes=attributes, **where)


def said(*texts: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]}


def evaluated(reward: float | None = 0.5, failure: Failure | None = None, task: Any = "why?") -> Evaluation:
    return Evaluation(task, ROLLOUT, reward, failure)


@pytest.mark.parametrize(
    "judging",
    [
        {"name": OPERATION_SPAN, "attributes": {OPERATION_NAME: REWARD_PREFIX}},
        {"name": "grade", "attributes": {PRIMARY_REWARD_VALUE: 1.0}},
    ],
)
def test_the_calls_of_the_judge_are_left_out(judging: dict[str, Any]) -> None:
    judge = Span.from_attributes(span_id="a" * 16, **judging)
    spans = [call("which room?", "Lyra"), judge, call("is it Vega?", "no", parent_id="a" * 16)]
    assert conversations(TraceToMessages(), spans) == [
        {
            "messages": [{"role": "user", "content": "which room?"}, {"role": "assistant", "content": "Lyra"}],
            "tools": None,
        }
    ]


def test_a_model_is_shown_input_output_score_and_conversation() -> None:
    assert example(evaluated(), [said("which room?", "Lyra")]) == {
        "Inputs": "why?",
        "Generated Outputs": "Lyra",
        "Feedback": "The score is 0.5.",
        "Conversations": "user: which room?\nassistant: Lyra",
    }


def test_it_is_told_why_a_rollout_failed() -> None:
    failure = Failure(kind="agent", type="KeyError", message="'room'")
    assert example(evaluated(None, failure), [])["Feedback"] == f"It failed, which scores 0: {failure}"


def test_a_conversation_that_goes_on_is_shown_once() -> None:
    shown = example(evaluated(), [said("a", "b"), said("a", "b", "c", "d"), said("other", "talk")])["Conversations"]
    assert shown == "user: a\nassistant: b\nuser: c\nassistant: d\n\nuser: other\nassistant: talk"


def test_the_tools_that_a_model_asks_for_are_shown() -> None:
    asked = {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"name": "find"}]}]}
    assert example(evaluated(), [asked])["Generated Outputs"] == '[{"name": "find"}]'


def test_what_another_adapter_makes_is_shown_as_json() -> None:
    assert example(evaluated(), [{"prompt": [1, 2]}])["Conversations"] == '{"prompt": [1, 2]}'


def test_however_long_a_rollout_is_what_is_shown_of_it_is_bounded() -> None:
    endless = [said(*["word " * 5000] * 9, str(number)) for number in range(50)]
    assert sum(map(len, example(evaluated(task="x" * 10**6), endless).values())) < 10_000


def test_a_long_text_keeps_its_beginning_and_its_end() -> None:
    assert shortened("a" * 50 + "b" * 50, 10) == "aaaaa [... 90 characters left out ...] bbbbb"
