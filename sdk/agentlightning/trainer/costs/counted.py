"""Which rollouts of a run count: those that its algorithm has the agent do. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

from agentlightning.algorithm.ledger import OPTIMIZER_LABELS
from agentlightning.types import Rollout

CHECK_LABELS: Final = {"phase": "check"}
"""Labels of the rollout that is shown before any other is spent."""
NOT_COUNTED: Final[Sequence[Mapping[str, str]]] = (CHECK_LABELS, OPTIMIZER_LABELS)
"""Labels of what is no rollout that the algorithm has the agent do."""


def is_counted(rollout: Rollout) -> bool:
    """Whether it is neither the one that is shown beforehand nor a call of the algorithm's own models."""
    return not any(labels.items() <= rollout.labels.items() for labels in NOT_COUNTED)
