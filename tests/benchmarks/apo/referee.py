"""Who counts: every try of a prompt goes through here, whichever optimizer asks. Knows no optimizer."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from apo.grammar import policy_of
from apo.models import Models
from apo.worlds import Outcome, Task, World


class Spent(Exception):
    """There is no rollout left for what was asked."""


@dataclass(frozen=True)
class Point:
    """From how many rollouts on an optimizer would return a prompt.

    Attributes:
        rollouts: How many it had spent.
        score: What the prompt earns in truth.
        reported: What the optimizer believes that it earns, if it says.
    """

    rollouts: int
    score: float
    reported: float | None = None


@dataclass(frozen=True)
class Result:
    """What an optimizer did in a world.

    Attributes:
        contestant: Its name.
        world: The number of the world.
        cell: The kind of the world.
        budget: The rollouts that it was allowed.
        seed: What the seed prompt earns in truth.
        oracle: What the best prompt earns in truth.
        curve: The prompts that it would have returned, in time.
        rollouts: What it spent.
        calls: How often it asked each model other than the agent's.
        tokens: What these were given and said.
        failed: Rollouts that failed because the prompt had lost its placeholder.
        lost: Prompts tried that had lost their sentinels.
        seconds: How long it took, where that means something.
    """

    contestant: str
    world: int
    cell: str
    budget: int
    seed: float
    oracle: float
    curve: list[Point]
    rollouts: int
    calls: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    failed: int = 0
    lost: int = 0
    seconds: float | None = None

    def as_json(self) -> dict[str, Any]:
        """For a file, or another process."""
        return asdict(self)

    @classmethod
    def of_json(cls, written: dict[str, Any]) -> "Result":
        """What `as_json` wrote."""
        return cls(**(written | {"curve": [Point(**point) for point in written["curve"]]}))


class Referee:
    """Tries prompts in a world and keeps the books.

    Args:
        world: Where.
        rollouts: How many tries there are. None: no limit.

    Attributes:
        world: The same.
        models: The critic and the editor.
        rollouts: The tries so far.
        failed: Those of them in which the agent failed.
    """

    def __init__(self, world: World, rollouts: int | None = None) -> None:
        self.world = world
        self.models = Models(world)
        self.rollouts = self.failed = 0
        self._limit = rollouts
        self._tries: Counter[tuple[str, str]] = Counter()
        self._lost: set[str] = set()
        self._returned: list[tuple[int, str, float | None]] = [(0, world.seed_prompt, None)]

    def left(self) -> int | None:
        """How many tries are left."""
        return None if self._limit is None else self._limit - self.rollouts

    def attempt(self, prompt: str, task: Task) -> Outcome:
        """Try a prompt on a task.

        Raises:
            Spent: When no try is left.
        """
        if self.left() == 0:
            raise Spent(f"all {self._limit} rollouts are spent")
        draw = self._tries[prompt, task.id]
        self._tries[prompt, task.id] += 1
        self.rollouts += 1
        if not policy_of(prompt).is_found:
            self._lost.add(prompt)
        outcome = self.world.attempt(prompt, task, draw)
        self.failed += outcome.is_failure
        return outcome

    def returns(self, prompt: str, reported: float | None = None, rollouts: int | None = None) -> None:
        """From now on, or from some number of rollouts, the optimizer would return this prompt."""
        self._returned.append((self.rollouts if rollouts is None else rollouts, prompt, reported))

    def result(self, contestant: str, budget: int, seconds: float | None = None) -> Result:
        """The books."""
        world = self.world
        return Result(
            contestant=contestant,
            world=world.number,
            cell=str(world.cell),
            budget=budget,
            seed=world.true_score(world.seed_prompt),
            oracle=world.true_score(world.oracle_prompt),
            curve=[Point(at, world.true_score(prompt), reported) for at, prompt, reported in self._returned],
            rollouts=self.rollouts,
            calls=dict(self.models.calls),
            tokens=dict(self.models.tokens),
            failed=self.failed,
            lost=len(self._lost),
            seconds=seconds,
        )
