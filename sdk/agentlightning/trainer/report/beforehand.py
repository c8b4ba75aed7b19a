"""What a person reads before a run begins: the first trace, and what the run will cost. Prints nothing."""

import json
from collections.abc import Sequence

from agentlightning.adapter.usage import distinct_calls, usage_by_model
from agentlightning.algorithm import Estimate
from agentlightning.algorithm.evaluation import Evaluation
from agentlightning.types import Span

_WIDTH = 100


def trace_lines(evaluation: Evaluation, spans: Sequence[Span]) -> list[str]:
    """The trace of one rollout in three lines: what it cost, what was asked, what came of it."""
    calls = [call.span for call in distinct_calls(spans)]
    usage = usage_by_model(spans)
    tokens = sum(used.input_tokens + used.output_tokens for used in usage.values())
    rollout = evaluation.rollout
    seconds = (rollout.end_time or 0.0) - rollout.start_time
    of_models = f" of {', '.join(sorted(usage))} ({tokens} tokens)" if calls else ""
    return [
        f"{rollout.rollout_id} {rollout.status} in {seconds:.2f} s: {len(spans)} spans, "
        f"{len(calls)} model calls{of_models}",
        f"asked: {_shortened(_last_message(calls[:1], 'gen_ai.prompt'))}",
        f"answered: {_shortened(_last_message(calls[-1:], 'gen_ai.completion'))}; "
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


def _last_message(calls: Sequence[Span], prefix: str) -> str:
    """The content of the last message of a call, or the tools that it asks for."""
    if not calls:
        return "no model was called"
    attributes = calls[0].attributes
    indices = [key.split(".")[2] for key in attributes if key.startswith(f"{prefix}.")]
    last = f"{prefix}.{max((int(index) for index in indices if index.isdigit()), default=0)}"
    if content := attributes.get(f"{last}.content"):
        return json.dumps(content, ensure_ascii=False)
    tool = f"{last}.tool_calls.0"
    if name := attributes.get(f"{tool}.name"):
        return f"{name}({attributes.get(f'{tool}.arguments', '')})"
    return "nothing"


def _shortened(text: str) -> str:
    return text if len(text) <= _WIDTH else text[:_WIDTH] + "..."
