"""What a person reads of a run."""

import json
from typing import Any

import agentlightning as agl
from agentlightning.algorithm import Estimate
from agentlightning.algorithm.evaluation import Evaluation
from agentlightning.trainer.report import cost_lines, result_lines, trace_lines


def run(**summary: Any) -> agl.Run:
    return agl.Run(run_id="run-0123456789ab", algorithm="APO", status="succeeded", create_time=0.0, summary=summary)


def llm_call(question: str, **answer: Any) -> agl.Span:
    attributes = {
        "gen_ai.request.model": "m",
        "gen_ai.usage.prompt_tokens": 5,
        "gen_ai.usage.completion_tokens": 2,
        "gen_ai.prompt.0.content": "be brief",
        "gen_ai.prompt.1.content": question,
    }
    return agl.Span.from_attributes(attributes=attributes | {f"gen_ai.completion.0.{k}": v for k, v in answer.items()})


def test_a_trace_is_three_lines_cost_question_and_answer() -> None:
    rollout = agl.Rollout(rollout_id="ro-1", input=1, start_time=1.0, end_time=1.5, status="succeeded")
    tool = {"tool_calls.0.name": "look_up", "tool_calls.0.arguments": "{}"}
    spans = [llm_call("which room?", **tool), llm_call("rooms: ...", content="Lyra")]
    assert trace_lines(Evaluation(1, rollout, 0.5, None), spans) == [
        "ro-1 succeeded in 0.50 s: 2 spans, 2 model calls of m (14 tokens)",
        'asked: "which room?"',
        'answered: "Lyra"; reward 0.5',
    ]


def test_a_trace_reads_the_same_whoever_recorded_it() -> None:
    rollout = agl.Rollout(rollout_id="ro-1", input=1, start_time=1.0, end_time=1.5, status="succeeded")
    said = {"input": [{"role": "user", "parts": [{"type": "text", "content": "which room?"}]}]}
    said["output"] = [{"role": "assistant", "parts": [{"type": "tool_call", "name": "look", "arguments": "{}"}]}]
    attributes = {f"gen_ai.{name}.messages": json.dumps(messages) for name, messages in said.items()}
    lines = trace_lines(Evaluation(1, rollout, 0.5, None), [agl.Span.from_attributes(attributes=attributes)])
    assert lines[1:] == ['asked: "which room?"', "answered: look({}); reward 0.5"]


def test_a_trace_without_an_answer_says_so() -> None:
    rollout = agl.Rollout(rollout_id="ro-1", input=1, start_time=1.0, end_time=1.5, status="failed")
    failure = agl.Failure(kind="infrastructure", type="ConnectionError", message="refused")
    lines = trace_lines(Evaluation(1, rollout, None, failure), [llm_call("which room?")])
    assert lines[-1] == "answered: nothing; failed: ConnectionError: refused"


def test_the_cost_counts_rollouts_and_model_calls() -> None:
    assert cost_lines(Estimate(229, 16), calls_per_rollout=2, test_rollouts=120) == [
        "cost: 229 rollouts + 120 on the test split, about 698 model calls by the agent and 16 by the optimiser"
    ]


def test_the_last_line_of_a_result_is_the_whole_in_short() -> None:
    scores = {"baseline": 0.41, "best": 0.86}
    lines = result_lines(run(validation=scores, test=scores, rollouts=229, test_rollouts=120, seconds=41.2))
    assert lines[-1] == "validation 0.41 -> 0.86, test 0.41 -> 0.86, 229 + 120 rollouts, 41 s"


def test_the_best_prompt_is_shown_as_a_diff() -> None:
    lines = result_lines(run(initial_prompt="Book {x}.", best_prompt="Book {x}.\nAnswer with the id only."))
    assert "+Answer with the id only." in lines
    assert " Book {x}." in lines


def test_a_run_that_found_nothing_better_says_so() -> None:
    assert any("no edit did better" in line for line in result_lines(run(initial_prompt="a", best_prompt="a")))


def test_what_was_spent_is_told_by_model() -> None:
    tokens = {"m": {"calls": 35, "input_tokens": 12345, "output_tokens": 678, "unmeasured_calls": 0}}
    lines = result_lines(run(tokens=tokens, cost=0.0061, failed=3, rollouts=40))
    assert "tokens: m 12,345 in, 678 out (35 calls)" in lines
    assert "spent: 0.0061" in lines
    assert "failed: 3 of 40 rollouts" in lines


def test_failures_are_told_by_kind_as_far_as_the_search_knows_them() -> None:
    kinds = {"agent": 2, "timeout": 1, "invalid": 4}
    assert "failed: 3 of 40 rollouts (2 agent, 1 timeout)" in result_lines(run(failed=3, rollouts=40, failures=kinds))
    lines = result_lines(run(failed=5, rollouts=40, test_rollouts=20, failures=kinds))
    assert "failed: 5 of 60 rollouts (in the search: 2 agent, 1 timeout)" in lines
    assert "refused before a rollout was spent: 4 edits" in lines


def test_a_run_that_was_stopped_says_how_to_go_on() -> None:
    known = {"config": {"started": {"argv": ["train.py"]}}}
    stopped = run(stopped_by="the budget of 40 rollouts").model_copy(update=known)
    lines = result_lines(stopped)
    assert "stopped by the budget of 40 rollouts" in lines
    assert "with a larger budget it goes on: agl runs resume run-0123456789ab" in lines
    done = run().model_copy(update=known)
    for other in (done, stopped.model_copy(update={"config": None})):
        assert not any("resume" in line for line in result_lines(other))


def test_what_went_beyond_the_budget_is_told() -> None:
    lines = result_lines(run(budget={"rollouts": [40, 40], "seconds": [61.5, 60.0]}))
    assert "budget: 40 of 40 rollouts, 61.5 of 60 seconds (1.5 over)" in lines


def test_an_unknown_cost_says_what_is_missing() -> None:
    tokens = {"m": {"calls": 2, "input_tokens": 1, "output_tokens": 1, "unmeasured_calls": 0}}
    assert any("Trainer(prices=" in line for line in result_lines(run(tokens=tokens, cost=None)))
    tokens["m"]["unmeasured_calls"] = 1
    assert any("1 calls do not say" in line for line in result_lines(run(tokens=tokens, cost=None)))


def test_a_run_without_calls_of_models_says_nothing_of_cost() -> None:
    assert not any("spent" in line for line in result_lines(run(tokens={}, cost=0.0)))
