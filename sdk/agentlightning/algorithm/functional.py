"""Algorithms written as functions. Knows what an algorithm can be given, by the names of the function's parameters."""

import inspect
from collections.abc import Callable
from functools import update_wrapper
from inspect import Parameter
from typing import Any, Final, Generic, ParamSpec, TypeVar

from agentlightning.algorithm.base import Algorithm
from agentlightning.errors import AlgorithmError
from agentlightning.types import Dataset

P = ParamSpec("P")
R = TypeVar("R")

_DATASETS: Final = ("train_dataset", "val_dataset")
_GIVEN: Final = ("store", "adapter", "initial_resources", *_DATASETS)
_VARIADIC: Final = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


class FunctionalAlgorithm(Algorithm, Generic[P, R]):
    """An algorithm whose `run` calls a function. Calling the instance calls the function as it was written.

    Args:
        function: It may have any of the parameters `store`, `adapter`, `initial_resources`, `train_dataset` and
            `val_dataset`; each is given by its name. Others need a default.

    Raises:
        AlgorithmError: When the function has a parameter that nothing can be given to.

    Example:
        >>> counting = FunctionalAlgorithm(lambda train_dataset, rounds=2: len(train_dataset) * rounds)
        >>> counting.run(["a", "b", "c"])
        6
    """

    def __init__(self, function: Callable[P, R]) -> None:
        self._function = function
        update_wrapper(self, function, updated=())
        self.__name__ = _name(function)
        self._parameters = inspect.signature(function).parameters
        for parameter in self._parameters.values():
            _check(self.__name__, parameter)
        self.needs_tasks = not self._parameters.keys().isdisjoint(_DATASETS)

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
        wanted = self._parameters
        datasets = {"train_dataset": train_dataset, "val_dataset": val_dataset}
        for name, dataset in datasets.items():
            if dataset is not None and name not in wanted:
                raise TypeError(
                    f"{name} is given, but the algorithm {self.__name__!r} has no such parameter: "
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

    Raises:
        AlgorithmError: When the function has a parameter that nothing can be given to.

    Example:
        >>> import agentlightning as agl
        >>> @agl.algo
        ... async def try_all(store, val_dataset):
        ...     for prompt in ("Be brief. {question}", "Think first. {question}"):
        ...         resources = await store.add_resources({"prompt_template": prompt})
        ...         for task in val_dataset:
        ...             await store.enqueue_rollout(task, "val", resources.resources_id)
        >>> trainer = agl.Trainer(algorithm=try_all)
    """
    return FunctionalAlgorithm(function)


def _check(name: str, parameter: Parameter) -> None:
    if parameter.kind in _VARIADIC:
        return
    if parameter.kind is Parameter.POSITIONAL_ONLY:
        raise AlgorithmError(
            f"the algorithm {name!r} has the positional-only parameter {parameter.name!r}; it is given by name"
        )
    if parameter.name in _GIVEN or parameter.default is not Parameter.empty:
        return
    way_out = (
        "there is no LLM proxy: give the agent an LLM among the resources"
        if parameter.name == "llm_proxy"
        else f"it may ask for {', '.join(_GIVEN)}; give others a default, or bind them with functools.partial"
    )
    raise AlgorithmError(f"the algorithm {name!r} asks for {parameter.name!r}, which it cannot be given; {way_out}")


def _name(function: Callable[..., Any]) -> str:
    while not hasattr(function, "__name__") and hasattr(function, "func"):  # a partial function
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))
