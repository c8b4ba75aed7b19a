"""Versions of a prompt, the branches that lead to them, and what an edit must keep. Runs nothing and asks nobody."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from agentlightning import PromptTemplate, PromptTemplateError, ResourcesUpdate

from agentlightning_algorithms.apo.prompts import Instructions

T = TypeVar("T")

_log = logging.getLogger("agentlightning.algorithm.apo")


@dataclass
class Candidate:
    """A version of the prompt.

    Attributes:
        version: `v0` for the seed.
        template: Its text and engine.
        resources: Its record in the store.
        scores: The mean rewards on the validation batches of the rounds it took part in.
        validation_score: The mean reward on the whole validation set when it was last tried there.
        on_val: What it last came to on each validation task that it was tried on, by the task's place.
        at_rollouts: How many rollouts were done when it was made.
    """

    version: str
    template: PromptTemplate
    resources: ResourcesUpdate
    scores: list[float] = field(default_factory=list)
    validation_score: float | None = None
    on_val: dict[int, float | None] = field(default_factory=dict)
    at_rollouts: int = 0

    def describe(self) -> dict[str, Any]:
        """Its record, JSON-able."""
        return {
            "version": self.version,
            "template": self.template.template,
            "resources_id": self.resources.resources_id,
            "scores": list(self.scores),
            "validation_score": self.validation_score,
            "score": self.scores[-1] if self.validation_score is None and self.scores else self.validation_score,
            "tasks_scored": sum(score is not None for score in self.on_val.values()),
            "at_rollouts": self.at_rollouts,
        }


@dataclass
class Branch:
    """One try at improving one parent.

    Attributes:
        place: Where it stands: the round, the parent's place in the beam and the branch's at the parent, each from 1.
        version: The version that it leads to.
        parent: What is to be improved.
        wave: Which branches of the round are tried together with it.
        tasks: The train batch, as places in the data set.
        critic: How the critic is asked.
        editor: How the editor is asked.
        rollouts: What the parent came to on them, as the critic sees it.
        critique: The critic's answer.
        edit: The editor's answer, after a repair if one was asked for.
        error: Why a model gave no answer.
        dropped: Why nothing came of the branch.
        candidate: What came of it.
        faults: Why its edits could not be tried.
    """

    place: tuple[int, int, int]
    version: str
    parent: Candidate
    wave: int
    tasks: Sequence[int]
    critic: Instructions
    editor: Instructions
    rollouts: str = ""
    critique: str = ""
    edit: str = ""
    error: Exception | None = None
    dropped: str | None = None
    candidate: Candidate | None = None
    faults: list[str] = field(default_factory=list)

    @property
    def prefix(self) -> str:
        """What its lines in the log begin with."""
        round, beam, branch = self.place
        return f"[Round {round:02d} | Beam {beam:02d} | Branch {branch:02d} | Prompt {self.version}]"

    @property
    def step(self) -> str:
        """What its steps in the lab begin with."""
        round, beam, branch = self.place
        return f"r{round:02}/b{beam}.{branch}"

    @property
    def edited(self) -> PromptTemplate:
        """The parent with the text of the edit."""
        return self.parent.template.model_copy(update={"template": self.edit})

    def drop(self, reason: str, level: int = logging.WARNING) -> None:
        """Give the branch up, and say so in the log."""
        self.dropped = reason
        _log.log(level, "%s Branch dropped: %s", self.prefix, reason)

    def describe(self) -> dict[str, Any]:
        """Its record and that of what came of it, JSON-able."""
        nothing: dict[str, Any] = {"version": self.version, "template": self.edit, "resources_id": None, "scores": []}
        nothing |= {"score": None, "tasks_scored": 0, "at_rollouts": None}
        return {
            **(self.candidate.describe() if self.candidate else nothing),
            "parent": self.parent.version,
            "round": self.place[0],
            "step": self.step,
            "edit_faults": list(self.faults),
            "critique": self.critique,
            "dropped": self.dropped,
        }


def live(branches: Iterable[Branch]) -> list[Branch]:
    """Those that were not dropped."""
    return [branch for branch in branches if branch.dropped is None]


def fault_of(edited: PromptTemplate, parent: PromptTemplate, existing: Mapping[str, str]) -> str | None:
    """Why an edit cannot be tried, in words for the editor; None when it can.

    Args:
        edited: The new template.
        parent: What it was made from.
        existing: The texts that there are, and the version of each.
    """
    if not edited.template:
        return "the template is empty"
    if edited.template in existing:
        return f"the template is the same as {existing[edited.template]}"
    try:
        placeholders = edited.placeholders
    except PromptTemplateError as error:
        return str(error)
    lost = [f"the placeholder {name!r} is lost" for name in sorted(parent.placeholders - placeholders)]
    invented = [f"the placeholder {name!r} is invented" for name in sorted(placeholders - parent.placeholders)]
    return "; ".join(lost + invented) or None


def draw_waves(rng: Random, tasks: Sequence[T], *, batch_size: int, count: int) -> list[list[list[T]]]:
    """Draw batches of tasks in waves: each wave is a new shuffle, and no task comes twice in it.

    Args:
        rng: Where the shuffles come from.
        tasks: What to draw from, at least one.
        batch_size: How many tasks make a batch; all there are if they are fewer.
        count: How many batches to draw in all.
    """
    size = min(batch_size, len(tasks))
    waves: list[list[list[T]]] = []
    while count > 0:
        order = rng.sample(tasks, len(tasks))
        waves.append([order[start : start + size] for start in range(0, len(tasks) - size + 1, size)][:count])
        count -= len(waves[-1])
    return waves
