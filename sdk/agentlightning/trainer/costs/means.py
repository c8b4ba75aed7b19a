"""Whether a run can be paid for, and what is left of its budget in the end. Reserves nothing and stops nothing."""

import dataclasses
from typing import Final

from agentlightning.algorithm import Algorithm, Budget, Ledger
from agentlightning.errors import TrainerError

CHECKS: Final = 1
"""Rollouts that are shown before any other is spent."""


def check(
    algorithm: Algorithm, budget: Budget, resume: str | None, train_size: int, val_size: int, test_size: int
) -> None:
    """Refuse what cannot end well, before anything is started; say what the cheapest possible run costs.

    Raises:
        TrainerError: The algorithm cannot keep to a budget or be resumed, or the budget is too small for any run.
    """
    if not algorithm.is_durable and (resume or budget != Budget()):
        what = f"resume is {resume!r}" if resume else f"budget is {budget}"
        name = type(algorithm).__name__
        raise TrainerError(f"{what}, but {name} keeps no journal of what it does: leave it out, or use agl.APO")
    cheapest = algorithm.cheapest(train_size, val_size)
    if cheapest is None or budget == Budget():
        return
    needed = {
        "rollouts": CHECKS + cheapest.rollouts + 2 * test_size,
        "optimizer_calls": cheapest.optimizer_calls,
    }
    print("the cheapest possible run: {rollouts} rollouts, {optimizer_calls} optimizer calls".format(**needed))
    for name, least in needed.items():
        given = getattr(budget, name)
        if given is not None and given < least:
            raise TrainerError(
                f"budget.{name} is {given}, but the cheapest possible run needs {least}, the check and the test split "
                "counted in: give more, or make the algorithm's batches or the datasets smaller"
            )


def standing(ledger: Ledger) -> dict[str, list[float]]:
    """For each limit of the budget what is spent and how much that may be."""
    spent = {"rollouts": ledger.made, "optimizer_calls": ledger.calls, **ledger.soft_spent()}
    limits = dataclasses.asdict(ledger.budget)
    return {name: [value, limits[name]] for name, value in spent.items() if limits[name] is not None}
