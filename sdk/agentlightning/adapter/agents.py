"""Which agent a span belongs to, as frameworks record it. Knows their attribute names and nothing else of them."""

from collections.abc import Iterable, Mapping
from typing import Any

from agentlightning.semconv import OPERATION_INPUT
from agentlightning.types import Span


def agent_name(span: Span) -> str | None:
    """The name of the agent that a span is the work of; None when it is no agent's."""
    names = (str(name) for name in _names(span.name, span.attributes) if name)
    return next(names, None)


def _names(span_name: str, attributes: Mapping[str, Any]) -> Iterable[Any]:
    yield attributes.get("agent.name")
    yield attributes.get("gen_ai.agent.name")
    if (
        str(attributes.get("agentops.span.kind")).rpartition(".")[2].lower() == "agent"
    ):  # the name of an enum or its value
        yield attributes.get("operation.name")
    yield attributes.get("recipient_agent_type")
    yield attributes.get("langchain.chain.type")
    yield attributes.get("executor.id")
    if attributes.get("type") == "agent":
        yield attributes.get(f"{OPERATION_INPUT}.name")
    if span_name.startswith("langchain.Chain."):
        yield attributes.get("lc_name")
