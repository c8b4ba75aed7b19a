"""A prompt in a race: what it is, where it comes from, and what came of it. Runs nothing and asks nobody."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agentlightning import ResourcesUpdate
from agentlightning.algorithm import Evaluation

from agentlightning_algorithms.apo.checks import Bundle
from agentlightning_algorithms.apo.paired import mean_on

_log = logging.getLogger("agentlightning.algorithm.apo")


@dataclass(eq=False)
class Contender:
    """A version of the templates that are tuned, or an edit that never became one.

    Attributes:
        version: `v0` for the seed.
        bundle: The templates, by name.
        step: Where in the search it was made.
        parent: What it was made from. None: the seed.
        components: Which of the templates were edited.
        critique: Why.
        edit_faults: Why edits of it were refused before any rollout.
        dropped: Why nothing came of it. None: it is a candidate.
        at_rollouts: How many rollouts had been asked for when it was made.
        scores: What came of each validation task that was tried. None: it was lost.
    """

    version: str
    bundle: Bundle
    step: str
    parent: "Contender | None" = None
    components: Sequence[str] = ()
    critique: str = ""
    edit_faults: list[str] = field(default_factory=list)
    dropped: str | None = None
    at_rollouts: int = 0
    scores: dict[int, float | None] = field(default_factory=dict)
    _resources: ResourcesUpdate | None = None

    @property
    def resources(self) -> ResourcesUpdate:
        """Its record; there is none before it is a candidate."""
        assert self._resources is not None
        return self._resources

    @resources.setter
    def resources(self, record: ResourcesUpdate) -> None:
        self._resources = record

    @property
    def is_candidate(self) -> bool:
        """Whether it has a record and can be tried."""
        return self._resources is not None

    @property
    def length(self) -> int:
        """The characters of all its templates."""
        return sum(len(template.template) for template in self.bundle.values())

    @property
    def score(self) -> float | None:
        """The mean of what it has on the validation set so far."""
        return mean_on(self.scores, self.scores)

    def take(self, tasks: Sequence[int], evaluations: Sequence[Evaluation]) -> None:
        """Keep what came of validation tasks."""
        self.scores.update((task, each.score) for task, each in zip(tasks, evaluations, strict=True))

    def drop(self, reason: str) -> None:
        """Give it up, and say so in the log."""
        self.dropped = reason
        _log.warning("[%s] Dropped: %s", self.version, reason)

    def describe(self) -> dict[str, Any]:
        """Its record, JSON-able."""
        texts = {name: template.template for name, template in self.bundle.items()}
        edited = [texts[name] for name in self.components] or list(texts.values())
        return {
            "version": self.version,
            "parent": self.parent.version if self.parent else None,
            "step": self.step,
            "component": ", ".join(self.components) or None,
            "template": "\n\n".join(edited),
            "templates": texts,
            "resources_id": self._resources.resources_id if self._resources else None,
            "critique": self.critique,
            "edit_faults": list(self.edit_faults),
            "dropped": self.dropped,
            "score": self.score,
            "tasks_scored": sum(score is not None for score in self.scores.values()),
            "at_rollouts": self.at_rollouts,
        }
