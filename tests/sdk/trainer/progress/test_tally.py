"""Counting rollouts by what they are now."""

from typing import Any

import agentlightning as agl
from agentlightning.trainer.costs.counted import CHECK_LABELS
from agentlightning.trainer.progress.tally import Tally


def rollout(
    rollout_id: str = "ro-1", status: Any = "succeeded", reward: float | None = None, **more: Any
) -> agl.Rollout:
    attempt = agl.Attempt(
        rollout_id=rollout_id, attempt_id="at-1", sequence_id=1, start_time=0, status=status, final_reward=reward
    )
    return agl.AttemptedRollout(
        rollout_id=rollout_id, input=1, start_time=0, status=status, attempt=attempt, **{"mode": "train"} | more
    )


def test_a_rollout_counts_as_what_it_is_now() -> None:
    tally = Tally()
    for status in ("preparing", "running", "succeeded"):
        tally.note(rollout(status=status))
    assert (tally.known, tally.ended, tally.running) == (1, 1, 0)


def test_a_rollout_ends_once_however_often_it_is_heard_of() -> None:
    tally = Tally()
    assert [tally.note(rollout(status=status)) for status in ("running", "failed", "failed")] == [False, True, False]
    assert (tally.ends, tally.failed) == (1, 1)


def test_a_mean_is_of_one_mode_and_a_failure_of_the_agent_counts_0() -> None:
    tally = Tally()
    tally.note(rollout("ro-1", reward=1.0))
    tally.note(rollout("ro-2", "failed"))
    tally.note(rollout("ro-3", reward=0.25, mode="val"))
    tally.note(rollout("ro-4", "cancelled"))
    assert tally.mean_rewards == {"train": 0.5, "val": 0.25}


def test_a_rollout_that_is_tried_again_no_longer_counts_as_failed() -> None:
    tally = Tally()
    tally.note(rollout(status="failed"))
    tally.note(rollout(status="running"))
    assert (tally.failed, tally.mean_rewards) == (0, {})


def test_the_rollout_of_the_check_ends_and_counts_nowhere() -> None:
    tally = Tally()
    assert tally.note(rollout(labels=CHECK_LABELS, reward=1.0))
    assert (tally.ends, tally.known, tally.mean_rewards) == (1, 0, {})
