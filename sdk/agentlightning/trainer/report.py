"""What a person reads of a run in lines: the first trace, the cost, the result. Decides and prints nothing."""

import difflib
import json
from collections.abc import Sequence
from typing import Any

from agentlightning.adapter.usage import distinct_calls, usage_by_model
from agentlightning.algorithm import Estimate
from agentlightning.algorithm.evaluation import Evaluation
from agentlightning.types import Run, Span

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


def result_lines(run: Run) -> list[str]:
    """What a run came to, as its record in the store tells it; the last line is the whole in short."""
    summary: dict[str, Any] = run.summary or {}
    lines = [f"run {run.run_id}: {run.algorithm}, {run.status}"]
    if run.failure is not None:
        lines.append(f"stopped by {run.failure}")
    lines += _score_lines(summary)
    lines += _diff_lines(summary.get("initial_prompt"), summary.get("best_prompt"))
    lines += _spending_lines(summary)
    if path := summary.get("prompt_path"):
        lines += [
            f"best prompt saved to {path}",
            f"use it without a server: agl.PromptTemplate.load({str(path)!r})",
        ]
    lines += _budget_lines(run, summary)
    lines.append(f"see this again: agl runs show {run.run_id}")
    if "seconds" in summary:
        lines.append(_in_short(summary))
    return lines


def _budget_lines(run: Run, summary: dict[str, Any]) -> list[str]:
    """What is spent of the budget, and how to go on with a run that it ended, or that ended before its time."""
    spent = [
        f"{value:,.6g} of {limit:,.6g} {name.replace('_', ' ')}"
        + (f" ({value - limit:,.4g} over)" if value > limit else "")
        for name, (value, limit) in (summary.get("budget") or {}).items()
    ]
    lines = [f"budget: {', '.join(spent)}"] if spent else []
    if limit := summary.get("stopped_by"):
        lines.append(f"stopped by {limit}; with a larger one it goes on: agl runs resume {run.run_id}")
    elif run.status in ("failed", "cancelled") and (run.config or {}).get("started"):
        lines.append(f"it can go on: agl runs resume {run.run_id}")
    return lines


def _score_lines(summary: dict[str, Any]) -> list[str]:
    lines = []
    for mode in ("train", "val"):
        if once := summary.get(mode):
            statuses = ", ".join(f"{count} {status}" for status, count in once["statuses"].items())
            lines.append(f"{mode}: mean reward {_score(once['mean_reward'])} ({statuses})")
    for split in ("validation", "test"):
        if scores := summary.get(split):
            baseline, best = _score(scores["baseline"]), _score(scores["best"])
            lines.append(f"{split}: {baseline} with the first prompt, {best} with the best")
    return lines


def _spending_lines(summary: dict[str, Any]) -> list[str]:
    lines = []
    if failed := summary.get("failed"):
        lines.append(f"failed: {failed} of {summary['rollouts'] + summary.get('test_rollouts', 0)} rollouts")
    if tokens := summary.get("tokens"):
        models = ", ".join(
            f"{model} {used['input_tokens']:,} in, {used['output_tokens']:,} out ({used['calls']} calls)"
            for model, used in tokens.items()
        )
        lines.append(f"tokens: {models}")
        lines.append(f"spent: {_cost(summary)}")
    return lines


def _cost(summary: dict[str, Any]) -> str:
    """The cost, or why it is unknown."""
    if summary.get("cost") is not None:
        return money(summary["cost"])
    unmeasured = sum(used["unmeasured_calls"] for used in summary["tokens"].values())
    if unmeasured:
        return f"unknown, as {unmeasured} calls do not say what they used (a stream does with include_usage)"
    return "unknown; Trainer(prices={model: (in, out)}) takes what a million tokens of each model cost"


def money(cost: float) -> str:
    """A cost in the currency of the prices, in as many digits as say something."""
    return f"{cost:.{4 if cost < 1 else 2}f}"


def _diff_lines(initial: str | None, best: str | None) -> list[str]:
    if initial is None or best is None:
        return []
    if initial == best:
        return ["the best prompt is the first one: no edit did better on the whole validation set"]
    diff = difflib.unified_diff(_sentences(initial), _sentences(best), "first prompt", "best prompt", n=1, lineterm="")
    return [line for line in diff if not line.startswith("@@")]


def _in_short(summary: dict[str, Any]) -> str:
    parts = [
        f"{split} {_score(scores['baseline'])} -> {_score(scores['best'])}"
        for split in ("validation", "test")
        if (scores := summary.get(split))
    ]
    test = f" + {summary['test_rollouts']}" if summary.get("test_rollouts") else ""
    return ", ".join([*parts, f"{summary['rollouts']}{test} rollouts", f"{summary['seconds']:.0f} s"])


def _sentences(text: str) -> list[str]:
    """A prompt in lines that a diff can show: its own lines, each sentence on one."""
    return [sentence for line in text.splitlines() for sentence in line.replace(". ", ".\n").split("\n")]


def _score(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


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
