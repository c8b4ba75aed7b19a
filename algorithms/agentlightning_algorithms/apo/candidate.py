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
    """

    version: str
    template: PromptTemplate
    resources: ResourcesUpdate
    scores: list[float] = field(default_factory=list)
    validation_score: float | None = None

    def describe(self) -> dict[str, Any]:
        """Its record, JSON-able."""
        return {
            "version": self.version,
            "template": self.template.template,
            "resources_id": self.resources.resources_id,
            "scores": list(self.scores),
            "validation_score": self.validation_score,
        }


@dataclass
class Branch:
    """One try at improving one parent.

    Attributes:
        place: Where it stands: the round, the parent's place in the beam and the branch's at the parent, each from 1.
        version: The version that it leads to.
        parent: What is to be improved.
        wave: Which branches of the round are tried together with it.
        tasks: The train batch.
        critic: How the critic is asked.
        editor: How the editor is asked.
        rollouts: What the parent came to on them, as the critic sees it.
        critique: The critic's answer.
        edit: The editor's answer, after a repair if one was asked for.
        error: Why a model gave no answer.
        dropped: Why nothing came of the branch.
        candidate: What came of it.
    """

    place: tuple[int, int, int]
    version: str
    parent: Candidate
    wave: int
    tasks: Sequence[Any]
    critic: Instructions
    editor: Instructions
    rollouts: str = ""
    critique: str = ""
    edit: str = ""
    error: Exception | None = None
    dropped: str | None = None
    candidate: Candidate | None = None

    @property
    def prefix(self) -> str:
        """What its lines in the log begin with."""
        round, beam, branch = self.place
        return f"[Round {round:02d} | Beam {beam:02d} | Branch {branch:02d} | Prompt {self.version}]"

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
        return {
            **(self.candidate.describe() if self.candidate else nothing),
            "parent": self.parent.version,
            "round": self.place[0],
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
