"""Which candidate comes from which. Pure functions, which take any record, however odd its parents."""

from collections import defaultdict
from collections.abc import Sequence

from agentlightning.trainer.report.view import Candidate, RunView


def in_order(candidates: Sequence[Candidate]) -> list[tuple[int, Candidate]]:
    """All candidates, each after its parent and before its parent's next child, and how deep each stands."""
    versions = {candidate.version for candidate in candidates}
    children: defaultdict[str | None, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        children[candidate.parent if candidate.parent in versions else None].append(candidate)
    ordered: list[tuple[int, Candidate]] = []
    waiting = [(0, candidate) for candidate in reversed(children.pop(None, []))]
    while waiting:
        depth, candidate = waiting.pop()
        ordered.append((depth, candidate))
        waiting += [(depth + 1, child) for child in reversed(children.pop(candidate.version, []))]
    return ordered + [(0, candidate) for left in children.values() for candidate in left]


def to_best(view: RunView) -> list[Candidate]:
    """The best candidate and those it comes from, the first prompt first."""
    by_version = {candidate.version: candidate for candidate in view.candidates}
    line: list[Candidate] = []
    version = view.best_version
    while version is not None and (candidate := by_version.pop(version, None)):
        line.append(candidate)
        version = candidate.parent
    return line[::-1]
