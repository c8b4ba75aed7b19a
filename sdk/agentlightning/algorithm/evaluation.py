"""Trying resources on tasks: enqueue, wait, and say what each task came to. Knows the store and no algorithm."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from agentlightning.errors import AlgorithmError
from agentlightning.store.base import LightningStore
from agentlightning.types import (
    AttemptedRollout,
    AttemptStatus,
    EnqueueRolloutRequest,
    Failure,
    FailureKind,
    ResourcesUpdate,
    Rollout,
    RolloutConfig,
    RolloutMode,
)

_log = logging.getLogger(__name__)

_KIND_OF_STATUS: dict[AttemptStatus, FailureKind] = {
    "failed": "agent",
    "timeout": "timeout",
    "unresponsive": "unresponsive",
}


@dataclass(frozen=True)
class Evaluation:
    """What became of one task.

    Attributes:
        task: The task.
        rollout: Its rollout, with the latest attempt if there was one.
        reward: The final reward. None: the agent gave none.
        failure: Why the rollout did not succeed. None: it did.

    Example:
        >>> rollout = Rollout(rollout_id="ro-1", input="why?", start_time=0, status="failed")
        >>> Evaluation("why?", rollout, reward=0.5, failure=Failure(kind="timeout")).score
        0.0
    """

    task: Any
    rollout: Rollout
    reward: float | None
    failure: Failure | None

    @property
    def score(self) -> float | None:
        """What it counts in a mean: the reward, or 0 when the agent failed or took too long.

        None when it says nothing about the agent: cancelled, lost by the infrastructure, or without a reward.
        """
        if self.failure is None:
            return self.reward
        return 0.0 if self.failure.kind in ("agent", "timeout") else None


async def evaluate(
    store: LightningStore,
    resources: ResourcesUpdate | None,
    tasks: Sequence[Any],
    *,
    mode: RolloutMode,
    on_done: Callable[[Rollout], None] | None = None,
    timeout_seconds: float | None = None,
    config: RolloutConfig | None = None,
    labels: Mapping[str, str] | None = None,
) -> list[Evaluation]:
    """Have every task done once with the same resources and wait for all of them.

    A task that is not done when the time is over is cancelled: one that had been started is a failure of kind
    `timeout`, one that never was is of kind `infrastructure`. When the caller is cancelled, so are the rollouts.

    Args:
        store: Where the runners take their work from.
        resources: What to give to the agent. None: the latest, if there are any.
        tasks: The inputs of the rollouts.
        mode: What the rollouts are for.
        on_done: Told of each rollout as it ends, in the order of ending.
        timeout_seconds: Seconds for all of the tasks together, time in the queue included. None: no limit.
        config: Limits and retries of each rollout. None: no limit, one attempt.
        labels: Labels of each rollout.

    Returns:
        One evaluation for each task, in the order of the tasks.

    Example:
        >>> async def score(store: LightningStore, prompt: str, tasks: list[str]) -> float:
        ...     resources = await store.add_resources({"prompt_template": prompt})
        ...     return mean_reward(await evaluate(store, resources, tasks, mode="val", timeout_seconds=600))
    """
    requests = [
        EnqueueRolloutRequest(
            input=task,
            mode=mode,
            resources_id=resources.resources_id if resources else None,
            config=config,
            labels=dict(labels or {}),
        )
        for task in tasks
    ]
    rollout_ids = [rollout.rollout_id for rollout in await store.enqueue_many_rollouts(requests)]
    in_time = await _wait(store, rollout_ids, on_done, timeout_seconds)
    ended = {rollout.rollout_id: rollout for rollout in await store.query_rollouts(rollout_id_in=rollout_ids)}
    return [
        evaluation_of(task, ended[rollout_id], late=rollout_id not in in_time)
        for task, rollout_id in zip(tasks, rollout_ids, strict=True)
    ]


def mean_reward(evaluations: Sequence[Evaluation]) -> float:
    """The mean score of those evaluations that have one (see `Evaluation.score`); says in the log what was left out.

    Raises:
        AlgorithmError: When no rollout that succeeded has a reward, or when nothing at all has a score.

    Example:
        >>> rollout = Rollout(rollout_id="ro-1", input="why?", start_time=0, status="succeeded")
        >>> mean_reward([Evaluation("why?", rollout, reward, failure=None) for reward in (0.5, 1.0)])
        0.75
    """
    succeeded = [evaluation for evaluation in evaluations if evaluation.failure is None]
    if succeeded and all(evaluation.reward is None for evaluation in succeeded):
        raise AlgorithmError(
            f"none of the {len(succeeded)} rollouts that succeeded has a reward, so there is nothing to go by: "
            "return a number from the agent, or call agl.emit_reward() in it"
        )
    scores = [evaluation.score for evaluation in evaluations if evaluation.score is not None]
    if not scores:
        raise AlgorithmError(
            f"none of the {len(evaluations)} rollouts says anything about the agent{_causes(evaluations)}"
        )
    if len(scores) < len(evaluations):
        _log.warning(
            "%d of %d rollouts are left out of the mean%s",
            len(evaluations) - len(scores),
            len(evaluations),
            _causes(evaluations),
        )
    return fmean(scores)


def score_of(rollout: Rollout) -> float | None:
    """What a rollout that has ended counts in a mean (see `Evaluation.score`).

    Example:
        >>> score_of(Rollout(rollout_id="ro-1", input="why?", start_time=0, status="cancelled")) is None
        True
    """
    return evaluation_of(rollout.input, rollout, late=False).score


def evaluation_of(task: Any, rollout: Rollout, *, late: bool = False) -> Evaluation:
    """What became of a task, by its rollout as it ended; late: it was cancelled because time was over.

    Example:
        >>> evaluation_of("why?", Rollout(rollout_id="ro-1", input="why?", start_time=0, status="cancelled")).score
    """
    attempt = rollout.attempt if isinstance(rollout, AttemptedRollout) else None
    return Evaluation(task, rollout, attempt.final_reward if attempt else None, _failure(rollout, late))


async def _wait(
    store: LightningStore,
    rollout_ids: Sequence[str],
    on_done: Callable[[Rollout], None] | None,
    timeout_seconds: float | None,
) -> set[str]:
    """Those that ended in time; the others are cancelled, also when the caller is."""
    ended: set[str] = set()
    try:
        async for rollout in store.iter_finished(rollout_ids, timeout_seconds):
            ended.add(rollout.rollout_id)
            if on_done is not None:
                on_done(rollout)
    finally:
        if late := [rollout_id for rollout_id in rollout_ids if rollout_id not in ended]:
            await store.cancel_rollouts(late)
    return ended


def _failure(rollout: Rollout, late: bool) -> Failure | None:
    if rollout.status == "succeeded":
        return None
    attempt = rollout.attempt if isinstance(rollout, AttemptedRollout) else None
    if rollout.status == "cancelled":
        if not late:
            return Failure(kind="cancelled", message="the rollout was cancelled")
        if attempt is None:
            return Failure(kind="infrastructure", message="no runner took the rollout in time: are there any?")
        return Failure(kind="timeout", message="the rollout did not end in time")
    if attempt is None:
        return Failure(kind="infrastructure", message="the rollout failed without an attempt")
    return attempt.failure or Failure(kind=_KIND_OF_STATUS.get(attempt.status, "infrastructure"))


def _causes(evaluations: Sequence[Evaluation]) -> str:
    failures = [str(e.failure) if e.failure else "no reward" for e in evaluations if e.score is None]
    return f"; the first of them: {failures[0]}" if failures else ""
