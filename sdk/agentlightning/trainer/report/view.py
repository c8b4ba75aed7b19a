"""What is known of a run, in types. What is unknown is None or empty. Knows no form that a report has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentlightning.adapter import Usage
from agentlightning.types import RunStatus


@dataclass(frozen=True)
class Scores:
    """Mean rewards on one split, of the first and of the best prompt."""

    baseline: float | None
    best: float | None


@dataclass(frozen=True)
class Holdout:
    """First and best prompt on the tasks of the test split that both have a score on; nothing was chosen by them."""

    tasks: int
    baseline: float
    best: float
    difference: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Pass:
    """One pass over the tasks of a split."""

    mode: str
    mean: float | None
    statuses: Mapping[str, int]


@dataclass(frozen=True)
class Prompt:
    """A template that was tuned."""

    name: str
    first: str
    best: str


@dataclass(frozen=True)
class Decision:
    """What a search decided, and the numbers it went by."""

    step: str
    kind: str
    version: str | None
    numbers: Mapping[str, object]


@dataclass(frozen=True)
class Candidate:
    """A version of the prompt, or an edit that never became one.

    Attributes:
        templates: Its texts by name; the name is empty where the record has only one.
        dropped: Why nothing came of it. None: it was tried.
        score: Its mean reward on the `tasks_scored` validation tasks that it was tried on.
        at_rollouts: How many rollouts the run had made when it was made.
    """

    version: str
    parent: str | None
    step: str | None
    templates: Mapping[str, str]
    critique: str | None
    edit_faults: Sequence[str]
    dropped: str | None
    score: float | None
    tasks_scored: int | None
    at_rollouts: int | None


@dataclass(frozen=True)
class Point:
    """The best version there was after so many rollouts, or so much money."""

    rollouts: int | None
    cost: float | None
    version: str
    score: float


@dataclass(frozen=True)
class TaskScores:
    """What one validation task came to with the first and with the best prompt."""

    id: str
    input: str
    before: float | None
    after: float | None

    @property
    def change(self) -> float | None:
        """By how much it got better."""
        return None if self.before is None or self.after is None else self.after - self.before


@dataclass(frozen=True)
class RunView:
    """A run.

    Attributes:
        failure: What it failed with.
        stopped_by: What ended it before its time: a budget, models that did not answer.
        is_resumable: Whether it is known how it was started, and so how to go on with it.
        tokens: What calls of models came to. None: that is unknown.
        failures: How many rollouts failed by kind of failure; `invalid` counts edits that were refused unseen.
        budget: What was spent and what was given, of each thing that had a limit.
        rollouts: Those of the algorithm; `test_rollouts` those of the test split.
    """

    run_id: str
    algorithm: str
    status: RunStatus
    failure: str | None
    stopped_by: str | None
    is_resumable: bool
    passes: Sequence[Pass]
    validation: Scores | None
    test: Scores | None
    holdout: Holdout | None
    prompts: Sequence[Prompt]
    best_version: str | None
    candidates: Sequence[Candidate]
    decisions: Sequence[Decision]
    curve: Sequence[Point]
    tasks: Sequence[TaskScores]
    rollouts: int | None
    test_rollouts: int
    optimizer_calls: int | None
    failed: int | None
    failures: Mapping[str, int]
    retried: int | None
    tokens: Mapping[str, Usage] | None
    cost: float | None
    seconds: float | None
    budget: Mapping[str, tuple[float, float]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    prompt_path: str | None = None
    report_paths: Sequence[str] = ()

    def tasks_by_change(self) -> list[TaskScores]:
        """The validation tasks: those that got worse first, then those that got better, then the others."""
        return sorted(self.tasks, key=lambda task: (not task.change, task.change or 0.0))

    def better_worse_same(self) -> tuple[int, int, int]:
        """How many validation tasks the best prompt does better, worse and as the first one."""
        found = [task.change for task in self.tasks if task.change is not None]
        better, worse = sum(change > 0 for change in found), sum(change < 0 for change in found)
        return better, worse, len(found) - better - worse

    @property
    def unmeasured_calls(self) -> int:
        """Calls of models that do not say what they used."""
        return sum(used.unmeasured_calls for used in (self.tokens or {}).values())
