"""What the reflecting model is shown of a rollout: texts of bounded length. Knows conversations, not who made them."""

import json
from collections.abc import Sequence
from typing import Any

from agentlightning import EmptyTrainingDataError, Span, TraceAdapter
from agentlightning.adapter import without_judges
from agentlightning.algorithm import Evaluation

_MESSAGE = 1500
_CONVERSATION = 6000


def conversations(adapter: TraceAdapter[Any], spans: Sequence[Span]) -> list[Any]:
    """What an adapter makes of the spans, the calls by which a judge found the reward left out."""
    try:
        return list(adapter.adapt(without_judges(spans)))
    except EmptyTrainingDataError:
        return []


def example(evaluation: Evaluation, conversations: Sequence[Any]) -> dict[str, str]:
    """One rollout as `gepa` writes it into its message: input, output, feedback, and how it came about."""
    score = evaluation.score or 0.0
    worth = f"The score is {score:g}." if evaluation.failure is None else f"It failed, which scores {score:g}"
    failure = "" if evaluation.failure is None else f": {shortened(str(evaluation.failure), _MESSAGE)}"
    calls = _longest(conversations)
    return {
        "Inputs": shortened(_text(evaluation.task), _MESSAGE),
        "Generated Outputs": shortened(_output(calls), _MESSAGE),
        "Feedback": worth + failure,
        "Conversations": shortened("\n\n".join(_transcript(call) for call in calls), _CONVERSATION),
    }


def shortened(text: str, length: int) -> str:
    """A text, or its beginning and its end and how much is left out between them."""
    if len(text) <= length:
        return text
    half = length // 2
    return f"{text[:half]} [... {len(text) - 2 * half} characters left out ...] {text[-half:]}"


def _longest(calls: Sequence[Any]) -> list[Any]:
    """The calls whose messages no later call repeats at its beginning."""
    return [
        call
        for place, call in enumerate(calls)
        if not (said := _messages(call))
        or not any(_messages(later)[: len(said)] == said for later in calls[place + 1 :])
    ]


def _messages(call: Any) -> list[Any]:
    return list(call["messages"]) if isinstance(call, dict) and call.get("messages") else []


def _output(calls: Sequence[Any]) -> str:
    if not calls:
        return "(no call of a language model was recorded)"
    messages = _messages(calls[-1])
    return _said(messages[-1]) if messages else _text(calls[-1])


def _transcript(call: Any) -> str:
    messages = _messages(call)
    if not messages:
        return shortened(_text(call), _MESSAGE)
    lines = (f"{message.get('role', '?')}: {shortened(_said(message), _MESSAGE)}" for message in messages)
    return "\n".join(lines)


def _said(message: dict[str, Any]) -> str:
    """The content of a message and the tools that it asks for."""
    parts = [message[key] for key in ("content", "tool_calls") if message.get(key)]
    return " ".join(map(_text, parts))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if hasattr(value, "model_dump"):
        value = value.model_dump()
    return json.dumps(value, ensure_ascii=False, default=str)
