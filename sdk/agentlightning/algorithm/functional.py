"""Algorithms written as functions. Knows what an algorithm can be given, by the names of the function's parameters."""

import inspect
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar

from agentlightning.algorithm.base import Algorithm
from agentlightning.types import Dataset

P = ParamSpec("P")
R = TypeVar("R")


class FunctionalAlgorithm(Algorithm, Generic[P, R]):
    """An algorithm whose `run` calls a function. Calling the instance calls the function as it was written.

    Args:
        function: It may have any of the parameters `store`, `adapter`, `initial_resources`, `train_dataset` and
            `val_dataset`; each is given by its name.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        self._function = function
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function."""
        return self._function(*args, **kwargs)

    def is_async(self) -> bool:
        """Whether the function is a coroutine function."""
        return inspect.iscoroutinefunction(self._function)

    def run(self, train_dataset: Dataset[Any] | None = None, val_dataset: Dataset[Any] | None = None) -> Any:
        """Call the function with what it asks for.

        Raises:
            TypeError: When a dataset is given that the function has no parameter for.
            AlgorithmError: When the function asks for a store or an adapter and there is none.
        """
        wanted = inspect.signature(self._function).parameters
        datasets = {"train_dataset": train_dataset, "val_dataset": val_dataset}
        for name, dataset in datasets.items():
            if dataset is not None and name not in wanted:
                raise TypeError(
                    f"{name} is given, but the algorithm {self._function.__name__!r} has no such parameter: "
                    f"add it, or leave {name} out"
                )
        getters = {
            "store": self.get_store,
            "adapter": self.get_adapter,
            "initial_resources": self.get_initial_resources,
        }
        arguments: dict[str, Any] = {name: get() for name, get in getters.items() if name in wanted}
        arguments |= {name: dataset for name, dataset in datasets.items() if name in wanted}
        return self._function(**arguments)  # type: ignore[call-arg]


def algo(function: Callable[P, R]) -> FunctionalAlgorithm[P, R]:
    """Make an algorithm out of a function; see `FunctionalAlgorithm`.

    Example:
        @algo
        async def best_of(store, initial_resources, val_dataset): ...

        Trainer(algorithm=best_of).fit(agent, val_dataset=tasks)
    """
    return FunctionalAlgorithm(function)
