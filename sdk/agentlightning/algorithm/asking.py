"""The algorithm's own calls of models, each kept as a rollout with the span of the call. Knows no model's client.

These rollouts wait in a queue that nobody takes work from: whoever asks begins them himself.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import time
from typing import Any, Final

from agentlightning.adapter.usage import Usage, summed, usage_by_model
from agentlightning.algorithm.ledger import OPTIMIZER_LABELS, Ledger
from agentlightning.algorithm.room import ModelError
from agentlightning.types import AttemptedRollout, Failure, Rollout, RolloutConfig, Span, TraceStatus

_SPAN: Final = "optimizer.chat"
_ANSWER: Final = "gen_ai.completion.0.content"


@dataclass(frozen=True)
class Answer:
    """What a model answered.

    Attributes:
        text: The text.
        input_tokens: The tokens sent. None: it does not say.
        output_tokens: The tokens that came back.

    Example:
        >>> from agentlightning.algorithm import Answer
        >>> Answer("Name the rules.", input_tokens=212, output_tokens=4).text
        'Name the rules.'
    """

    text: str
    input_tokens: int | None = None
    output_tokens: int | None = None

    @classmethod
    def of_completion(cls, completion: Any) -> "Answer":
        """The first choice of a chat completion, as the `openai` package gives it."""
        text, usage = (completion.choices[0].message.content or "").strip(), completion.usage
        return cls(text, usage.prompt_tokens, usage.completion_tokens) if usage else cls(text)


Ask = Callable[[str, str], Awaitable[Answer]]
"""Sends a message to a model; whatever it raises is an answer that there is none."""


class Correspondence:
    """What an algorithm asked models, and what they answered.

    Args:
        ledger: What the run has.

    Attributes:
        usage: What the calls that were answered came to, by model.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.usage: dict[str, Usage] = {}
        self._ledger = ledger
        self._store = ledger.store.bind(queue=f"{getattr(ledger.store, 'queue', None) or 'default'}.optimizer")

    async def ask(self, step: str, model: str, message: str, ask_model: Ask) -> str:
        """The answer under a step: what was answered, or what the model answers now.

        Raises:
            ModelError: There is none.
            BudgetSpent: The call cannot be paid.
        """
        asked = {"model": model, "message": message}
        known = self._ledger.call(step, asked)
        is_new = known is None or known.status not in ("succeeded", "failed")
        self._ledger.reserve(calls=is_new)
        self._ledger.calls_asked += 1
        if known is not None and not is_new:
            return await self._answered(known)
        if known is None:
            known = await self._store.enqueue_rollout(
                asked, config=RolloutConfig(max_redeliveries=0), labels={**OPTIMIZER_LABELS, "step": step}
            )
        started = await self._store.start_attempt(known.rollout_id)
        return await self._asked(step, started, await _call(ask_model, model, message))

    async def _asked(self, step: str, started: AttemptedRollout, outcome: "tuple[Span, Failure | None]") -> str:
        span, failure = outcome
        rollout_id, attempt_id = started.rollout_id, started.attempt.attempt_id
        place = {"rollout_id": rollout_id, "attempt_id": attempt_id, "sequence_id": started.next_sequence_id}
        kept = span.model_copy(update=place)
        ended = await self._store.complete_attempt(rollout_id, attempt_id, failure=failure, spans=[kept])
        self._ledger.note_call(step, ended)
        await self._ledger.count_usage([rollout_id])
        return self._text(kept)

    async def _answered(self, rollout: Rollout) -> str:
        spans = await self._store.query_spans(rollout.rollout_id, "latest", name=_SPAN)
        return self._text(spans[-1])

    def _text(self, span: Span) -> str:
        if _ANSWER not in span.attributes:
            raise ModelError(f"{span.attributes['gen_ai.request.model']} did not answer: {span.status.description}")
        self.usage = summed([self.usage, usage_by_model([span])])
        return str(span.attributes[_ANSWER])


async def _call(ask_model: Ask, model: str, message: str) -> tuple[Span, Failure | None]:
    """The span of a call, and why it failed if it did."""
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": model,
        "gen_ai.prompt.0.role": "user",
        "gen_ai.prompt.0.content": message,
    }
    failure, began = None, time()
    try:
        answer = await ask_model(model, message)
    except Exception as error:  # the client is the user's: whatever it raises is no answer
        failure = Failure(kind="infrastructure", type=type(error).__name__, message=str(error))
    else:
        attributes |= {"gen_ai.completion.0.role": "assistant", _ANSWER: answer.text}
        counts = {"gen_ai.usage.input_tokens": answer.input_tokens, "gen_ai.usage.output_tokens": answer.output_tokens}
        attributes |= {name: count for name, count in counts.items() if count is not None}
    status = TraceStatus(status_code="ERROR", description=str(failure)) if failure else None
    return Span.from_attributes(name=_SPAN, attributes=attributes, status=status, start_time=began), failure
