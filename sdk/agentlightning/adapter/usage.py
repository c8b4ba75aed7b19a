"""How many tokens a rollout used, by model. Counts each call once, whoever recorded it. Knows no prices."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Final

from agentlightning.adapter.call import LLMCall, llm_calls, operation_of, repeated
from agentlightning.adapter.tree import Tree
from agentlightning.types import Span

_EMBEDDINGS: Final = frozenset({"embedding", "embeddings"})
_INPUT: Final = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
_OUTPUT: Final = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")


@dataclass(frozen=True)
class Usage:
    """What calls of one model came to.

    Attributes:
        calls: How many there were.
        input_tokens: The tokens sent.
        output_tokens: The tokens that came back.
        unmeasured_calls: Calls that were answered and do not say how many tokens they used.

    Example:
        >>> from agentlightning.adapter import Usage
        >>> Usage(1, 10, 5) + Usage(1, 20, 5)
        Usage(calls=2, input_tokens=30, output_tokens=10, unmeasured_calls=0)
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    unmeasured_calls: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.unmeasured_calls + other.unmeasured_calls,
        )


def distinct_calls(spans: Sequence[Span]) -> list[LLMCall]:
    """The calls of language models among the spans of a rollout, without those that another span records better."""
    calls = llm_calls(spans)
    repeats = repeated(calls, Tree(spans))
    return [call for call in calls if call.span.span_id not in repeats]


def usage_by_model(spans: Sequence[Span]) -> dict[str, Usage]:
    """What the models that a rollout called came to, embeddings included, by the name each was asked for by.

    Example:
        >>> from agentlightning import Span
        >>> from agentlightning.adapter import usage_by_model
        >>> call = {"gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 9, "gen_ai.usage.output_tokens": 2}
        >>> usage_by_model([Span.from_attributes(attributes=call)])
        {'m': Usage(calls=1, input_tokens=9, output_tokens=2, unmeasured_calls=0)}
    """
    calls = llm_calls(spans)
    tree = Tree(spans)
    repeats = repeated(calls, tree)
    records: defaultdict[str, list[LLMCall]] = defaultdict(list)
    for call in sorted(calls, key=lambda call: call.span.span_id in repeats):
        records[_best(call, repeats).span.span_id].append(call)
    used = [_usage_of(recorded) for recorded in records.values()]
    return summed([*used, *map(_usage_of_embedding, _embeddings(spans, tree))])


def summed(used: Iterable[Mapping[str, Usage]]) -> dict[str, Usage]:
    """Several usages by model as one."""
    total: dict[str, Usage] = {}
    for by_model in used:
        for model, usage in by_model.items():
            total[model] = total.get(model, Usage()) + usage
    return total


def _best(call: LLMCall, repeats: Mapping[str, LLMCall]) -> LLMCall:
    seen = {call.span.span_id}
    while (better := repeats.get(call.span.span_id)) is not None and better.span.span_id not in seen:
        seen.add(better.span.span_id)
        call = better
    return call


def _usage_of(records: Sequence[LLMCall]) -> dict[str, Usage]:
    """The usage of one call, from the first of its records that tells it."""
    told = [call.attributes for call in records]
    usage = _measured(told)
    is_told = usage.input_tokens or usage.output_tokens or not records[0].is_answered
    return {_model(told): usage if is_told else Usage(calls=1, unmeasured_calls=1)}


def _usage_of_embedding(span: Span) -> dict[str, Usage]:
    told = [LLMCall(span).attributes]
    return {_model(told): _measured(told)}


def _measured(told: Iterable[Mapping[str, Any]]) -> Usage:
    counts = ((_count(attributes, _INPUT), _count(attributes, _OUTPUT)) for attributes in told)
    sent, returned = next((pair for pair in counts if any(pair)), (0, 0))
    return Usage(1, sent, returned)


def _model(told: Sequence[Mapping[str, Any]]) -> str:
    names = (each.get(key) for key in ("gen_ai.request.model", "gen_ai.response.model") for each in told)
    return str(next(filter(None, names), "?"))


def _embeddings(spans: Iterable[Span], tree: Tree) -> list[Span]:
    """The requests for embeddings, the outermost record of each."""
    asked = {span.span_id: span for span in spans if _is_embedding(span)}
    return [span for span in asked.values() if not any(above.span_id in asked for above in tree.above(span))]


def _is_embedding(span: Span) -> bool:
    return operation_of(span) in _EMBEDDINGS


def _count(attributes: Mapping[str, Any], names: Sequence[str]) -> int:
    counts = (_number(attributes.get(name)) for name in names)
    return next((int(count) for count in counts if 0 < count < inf), 0)


def _number(value: Any) -> float:
    """A count that may be a text, as the attributes of `agl emit span` are."""
    if isinstance(value, str) and value.isdecimal():
        return float(value)
    return value if isinstance(value, (int, float)) else 0
