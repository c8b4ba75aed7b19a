"""What became of the rollouts of a run so far, counted from their changes. Knows no store and shows nothing."""

import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass

from agentlightning.algorithm.evaluation import score_of
from agentlightning.trainer.costs.counted import is_counted
from agentlightning.types import Rollout, RolloutMode, RolloutStatus
from agentlightning.types.rollout import TERMINAL_STATUSES

_RECENT = 50


@dataclass(frozen=True)
class _State:
    status: RolloutStatus
    mode: RolloutMode | None
    score: float | None


class Tally:
    """Counts rollouts by what they are now, however often each is heard of.

    Attributes:
        ends: How many were heard to end, those that do not count as the algorithm's among them.
    """

    def __init__(self) -> None:
        self.ends = 0
        self._states: dict[str, _State] = {}
        self._by_status: Counter[RolloutStatus] = Counter()
        self._scores: defaultdict[RolloutMode | None, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._ended_at: deque[float] = deque(maxlen=_RECENT)

    def note(self, rollout: Rollout) -> bool:
        """Note a rollout as it is now.

        Returns:
            Whether it has ended since it was last heard of.
        """
        before = self._states.get(rollout.rollout_id)
        has_ended = rollout.is_terminal and (before is None or before.status not in TERMINAL_STATUSES)
        now = _State(rollout.status, rollout.mode, score_of(rollout) if rollout.is_terminal else None)
        self._states[rollout.rollout_id] = now
        self.ends += has_ended
        if not is_counted(rollout):
            return has_ended
        self._count(now, 1)
        if before is not None:
            self._count(before, -1)
        if has_ended:
            self._ended_at.append(time.monotonic())
        return has_ended

    @property
    def known(self) -> int:
        """How many there are."""
        return self._by_status.total()

    @property
    def ended(self) -> int:
        """How many have ended."""
        return sum(self._by_status[status] for status in TERMINAL_STATUSES)

    @property
    def failed(self) -> int:
        """How many have failed."""
        return self._by_status["failed"]

    @property
    def running(self) -> int:
        """How many a worker has."""
        return self._by_status["preparing"] + self._by_status["running"]

    @property
    def rate(self) -> float | None:
        """How many ended in a second, of late. None: too few have."""
        if len(self._ended_at) < 2:
            return None
        return len(self._ended_at) / max(time.monotonic() - self._ended_at[0], 0.001)

    @property
    def mean_rewards(self) -> dict[str, float]:
        """The mean reward of those that ended, for each mode, as `mean_reward` counts it."""
        return {mode or "": total / count for mode, (total, count) in self._scores.items() if count > 0}

    def _count(self, state: _State, sign: int) -> None:
        self._by_status[state.status] += sign
        if state.score is not None:
            scores = self._scores[state.mode]
            scores[0] += sign * state.score
            scores[1] += sign
