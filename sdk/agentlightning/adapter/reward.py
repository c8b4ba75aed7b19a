"""Which spans are there to find a reward, such as a judge's. Knows no adapter."""

from collections.abc import Sequence

from agentlightning.adapter.tree import Tree
from agentlightning.emitter import is_reward_span
from agentlightning.semconv import OPERATION_NAME, REWARD_PREFIX, ROLLOUT_SPAN
from agentlightning.types import Span


def finds_reward(span: Span) -> bool:
    """Whether what lies inside a span is done to find a reward."""
    is_operation = span.attributes.get(OPERATION_NAME) == REWARD_PREFIX
    return is_operation or (span.name != ROLLOUT_SPAN and is_reward_span(span))


def without_judges(spans: Sequence[Span]) -> list[Span]:
    """The spans of a rollout but those that lie inside one that finds its reward."""
    tree = Tree(spans)
    return [span for span in spans if not any(map(finds_reward, tree.above(span)))]
