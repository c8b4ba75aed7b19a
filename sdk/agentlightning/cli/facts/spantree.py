"""The spans of an attempt as they lie in one another. Knows no terminal and no store."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from agentlightning.adapter import llm_calls
from agentlightning.adapter.call import repeated
from agentlightning.adapter.tree import Tree
from agentlightning.cli.facts.spans import Facts, facts_of
from agentlightning.types import Span


@dataclass(frozen=True)
class Branch:
    """A span in its place.

    Attributes:
        facts: What is to be known of it.
        depth: How many spans it lies in.
        below: The spans that lie in it.
    """

    facts: Facts
    depth: int = 0
    below: "list[Branch]" = field(default_factory=list)

    def all_below(self) -> "Iterator[Branch]":
        """It, and the spans in it, and in them, in the order in which they are shown."""
        waiting = [self]
        while waiting:
            branch = waiting.pop()
            yield branch
            waiting += reversed(branch.below)


def tree_of(spans: Sequence[Span]) -> list[Branch]:
    """The spans that lie in none of the others, each with those that lie in it.

    A span whose parent is not there, and one of a ring of parents, lies in none.
    """
    ordered = sorted(spans, key=lambda span: (span.sequence_id, span.start_time or 0.0))
    begun = min((span.start_time for span in ordered if span.start_time is not None), default=0.0)
    calls = {call.span.span_id: call for call in llm_calls(ordered)}
    repeats = repeated([*calls.values()], Tree(ordered))
    known = {span.span_id for span in ordered}
    children: defaultdict[str | None, list[Span]] = defaultdict(list)
    for span in ordered:
        children[span.parent_id if span.parent_id in known else None].append(span)
    placed: set[str] = set()

    def facts(span: Span) -> Facts:
        return facts_of(span, calls.get(span.span_id), begun, repeats.get(span.span_id))

    def planted(span: Span) -> Branch:
        placed.add(span.span_id)
        root = Branch(facts(span))
        waiting = [(root, span)]
        while waiting:
            above, parent = waiting.pop()
            for child in children[parent.span_id]:
                if child.span_id not in placed:
                    placed.add(child.span_id)
                    branch = Branch(facts(child), above.depth + 1)
                    above.below.append(branch)
                    waiting.append((branch, child))
        return root

    roots = [planted(span) for span in children[None]]
    return roots + [planted(span) for span in ordered if span.span_id not in placed]
