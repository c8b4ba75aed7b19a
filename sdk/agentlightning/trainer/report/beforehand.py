"""What a person reads before a run begins: the first trace, and what the run will cost. Prints nothing."""

import json
from collections.abc import Sequence

from agentlightning.adapter.numbered import JSON
from agentlightning.adapter.usage import distinct_calls, usage_by_model
from agentlightning.algorithm import Estimate
from agentlightning.algorithm.evaluation import Evaluation
from agentlightning.trainer.report.words import shortened
from agentlightning.types import Span


def trace_lines(evaluation: Evaluation, spans: Sequence[Span]) -> list[str]:
    """The trace of one rollout in three lines: what it cost, what was asked, what came of it."""
    calls = distinct_calls(spans)
    usage = usage_by_model(spans)
    tokens = sum(used.input_tokens + used.output_tokens for used in usage.values())
    rollout = evaluation.rollout
    seconds = (rollout.end_time or 0.0) - rollout.start_time
    asked = _said(calls[0].messages) if calls else "no model was called"
    answered = _said(calls[-1].answers) if calls else "no model was called"
    of_models = f" of {', '.join(sorted(usage))} ({tokens} tokens)" if calls else ""
    return [
        f"{rollout.rollout_id} {rollout.status} in {seconds:.2f} s: {len(spans)} spans, "
        f"{len(calls)} model calls{of_models}",
        f"asked: {shortened(asked)}",
        f"answered: {shortened(answered)}; "
        + (f"failed: {evaluation.failure}" if evaluation.failure else f"reward {evaluation.reward}"),
    ]


def cost_lines(estimate: Estimate | None, calls_per_rollout: int, test_rollouts: int) -> list[str]:
    """What the run will cost, in rollouts and model calls."""
    if estimate is None:
        return ["cost: this algorithm does not say beforehand how many rollouts it needs"]
    rollouts = estimate.rollouts + test_rollouts
    test = f" + {test_rollouts} on the test split" if test_rollouts else ""
    line = f"cost: {estimate.rollouts} rollouts{test}, about {rollouts * calls_per_rollout} model calls by the agent"
    return [f"{line} and {estimate.optimizer_calls} by the optimiser"]


def _said(messages: Sequence[JSON]) -> str:
    """The content of the last message, or the tool that it asks for."""
    if not messages:
        return "nothing"
    if content := messages[-1].get("content"):
        return json.dumps(content, ensure_ascii=False)
    match messages[-1]:
        case {"tool_calls": [{"function": {"name": name, "arguments": arguments}}, *_]}:
            return f"{name}({arguments})"
    return "nothing"
