"""What a run had cost by the time its best prompt changed. Pure: knows rollouts and what each used, and no store."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agentlightning.adapter import Usage
from agentlightning.algorithm.ledger import is_own_call
from agentlightning.trainer.costs.counted import is_counted
from agentlightning.trainer.costs.spending import Prices, cost_of
from agentlightning.types import Rollout


def with_costs(
    curve: Sequence[Mapping[str, Any]],
    rollouts: Sequence[Rollout],
    usage: Mapping[str, Mapping[str, Usage]],
    prices: Prices,
    *,
    has_own_calls: bool = False,
) -> list[dict[str, Any]]:
    """A curve with the cost at each of its points, as far as that is known.

    Args:
        curve: Points with the rollouts that the algorithm had made by then.
        rollouts: All rollouts of the run, in the order they were enqueued.
        usage: What the calls of each came to, by its id and by model.
        prices: What a million tokens cost, by model.
        has_own_calls: Whether the algorithm itself called models. If it kept none of the calls as a rollout, nobody
            knows when it made them.
    """
    if has_own_calls and not any(map(is_own_call, rollouts)):
        return [{**point, "cost": None} for point in curve]
    costs = _costs_after(rollouts, usage, prices)
    return [{**point, "cost": costs.get(point.get("rollouts", 0))} for point in curve]


def _costs_after(
    rollouts: Iterable[Rollout], usage: Mapping[str, Mapping[str, Usage]], prices: Prices
) -> dict[int, float]:
    """What the run had cost when so many rollouts had been made, as far as that is known."""
    costs: dict[int, float] = {}
    made, spent = 0, 0.0
    for rollout in rollouts:
        if rollout.mode == "test":
            continue
        cost = cost_of(usage.get(rollout.rollout_id, {}), prices)
        if cost is None:
            break
        spent += cost
        if is_counted(rollout):
            made += 1
            costs[made] = spent
    return costs
