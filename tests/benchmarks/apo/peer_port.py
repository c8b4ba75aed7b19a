"""How agentlightning 0.3.0's APO searches, in process: for the worlds where the real package would take too long.

Only what decides about rollouts and prompts is here; tests compare its counts with the real package's. It keeps what
that does: a parent is tried anew for every branch, the beam is scored anew on each round's batch, the history's best is
chosen on the whole validation set.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from statistics import fmean

from apo.referee import Referee, Result, Spent
from apo.worlds import Outcome, Task


@dataclass(frozen=True)
class PeerSettings:
    """The parameters of its constructor; these defaults are those of its tutorial."""

    beam_width: int = 2
    branch_factor: int = 2
    gradient_batch_size: int = 4
    val_batch_size: int = 10
    beam_rounds: int | None = 2
    """None: as many as the rollouts allow."""


DEFAULTS = PeerSettings(beam_width=4, branch_factor=4, val_batch_size=16, beam_rounds=3)
"""Its constructor's."""


def run_peer_port(name: str, referee: Referee, budget: int, settings: PeerSettings, seed: int = 0) -> Result:
    """Search until the rounds or the rollouts are over."""
    search = _Search(referee, settings, Random(f"{referee.world.number} {seed}"))
    with suppress(Spent):
        search.run()
    return referee.result(name, budget)


class _Search:
    def __init__(self, referee: Referee, settings: PeerSettings, rng: Random) -> None:
        self._referee, self._settings, self._rng = referee, settings, rng
        self._best = float("-inf")

    def run(self) -> None:
        """Until the rounds are over; `Spent` ends it before."""
        settings, world, rng = self._settings, self._referee.world, self._rng
        train = _batches(world.train, settings.gradient_batch_size, rng)
        val = _batches(world.val, settings.val_batch_size, rng)
        beam = [world.seed_prompt]
        self._validate(beam[0])
        number = 0
        while settings.beam_rounds is None or number < settings.beam_rounds:
            children = [self._child(parent, next(train)) for parent in self._parents(beam) for _ in self._branches()]
            batch = next(val)
            scored = [(self._score(prompt, batch), prompt) for prompt in [*beam, *children]]
            beam = [prompt for _, prompt in sorted(scored, key=lambda pair: -pair[0])][: settings.beam_width]
            self._validate(beam[0])
            number += 1

    def _branches(self) -> range:
        return range(self._settings.branch_factor)

    def _parents(self, beam: Sequence[str]) -> list[str]:
        width = self._settings.beam_width
        if len(beam) < width:
            return [beam[index % len(beam)] for index in range(width)]
        return self._rng.sample(list(beam), width)

    def _child(self, parent: str, batch: Sequence[Task]) -> str:
        outcomes = [self._referee.attempt(parent, task) for task in batch]
        record = "\n\n".join(_shown(parent, task, outcome) for task, outcome in zip(batch, outcomes, strict=True))
        critique = self._referee.models.ask("sim-critic", f"{parent}\n\nEXPERIMENTS\n{record}")
        style = self._rng.choice(("Revise the given prompt template.", "Address ONE critique point."))
        return self._referee.models.ask("sim-editor", f"{style}\n\nPROMPT\n{parent}\n\nCRITIQUE\n{critique}")

    def _score(self, prompt: str, tasks: Sequence[Task]) -> float:
        return fmean(self._referee.attempt(prompt, task).score for task in tasks)

    def _validate(self, prompt: str) -> None:
        score = self._score(prompt, self._referee.world.val)
        if score > self._best:
            self._best = score
            self._referee.returns(prompt, score)


def _batches(tasks: Sequence[Task], size: int, rng: Random) -> Iterator[list[Task]]:
    """Batches for ever, each epoch shuffled; what is left of one epoch starts the next's first batch."""
    batch: list[Task] = []
    while True:
        for task in rng.sample(list(tasks), len(tasks)):
            if task in batch:
                continue
            batch.append(task)
            if len(batch) == min(size, len(tasks)):
                yield batch
                batch = []


def _shown(prompt: str, task: Task, outcome: Outcome) -> str:
    return "\n".join([task.text, outcome.answer or "the agent failed", outcome.feedback])
