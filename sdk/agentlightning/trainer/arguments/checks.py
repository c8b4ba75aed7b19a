"""Checks of what a `Trainer` and `fit` are given: each error names the parameter, its value and the way out."""

import importlib.util
import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from agentlightning.address import parse_address
from agentlightning.errors import InvalidRequestError, TrainerError
from agentlightning.trainer.arguments.components import ALGORITHM, HOOK, STORE, TRACER, build, named
from agentlightning.types import NamedResources, as_resource

if TYPE_CHECKING:
    from agentlightning.algorithm import Algorithm, Budget
    from agentlightning.litagent import LitAgent
    from agentlightning.runner import Hook
    from agentlightning.store import LightningStoreClient
    from agentlightning.tracer import Tracer

T = TypeVar("T")

_HIGHEST_PORT: Final = 65535


def either(name: str, value: T | None, older_name: str, older: T | None) -> T | None:
    """The value of a parameter that has an older name, too.

    Raises:
        TrainerError: Both are given, and differ.
    """
    if value is not None and older is not None and value != older:
        raise TrainerError(
            f"{name} is {value!r} and {older_name}, which means the same, is {older!r}: give {name} alone"
        )
    return older if value is None else value


def whole_number(name: str, value: Any, least: int, most: int | None = None) -> int:
    """A number that counts something.

    Raises:
        TrainerError: It is no whole number, or out of range.
    """
    wanted = f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most}"
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
        raise TrainerError(f"{name} is {value!r}, expected {wanted}")
    return value


def resources_of(value: object) -> NamedResources:
    """Resources by their names.

    Raises:
        TrainerError: It is no dict, or has a key that is no name.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise TrainerError(
            f'initial_resources is {value!r}, expected a dict from names to resources: {{"prompt_template": "..."}}'
        )
    return {name: as_resource(resource) for name, resource in value.items()}


def check_dataset(name: str, value: object) -> None:
    """Refuse what cannot be the tasks of a dataset.

    Raises:
        TrainerError: It has no length or no items by number, or is a text.
    """
    if value is None:
        return
    if isinstance(value, str | bytes | Mapping | AbstractSet):
        raise TrainerError(f"{name} is {_shortened(value)}, expected tasks in an order: a list with one item a task")
    if not (hasattr(value, "__len__") and hasattr(value, "__getitem__")):
        raise TrainerError(f"{name} is {value!r}, which has no length or no items by number: give list({name})")


def hooks_of(value: Any) -> tuple["Hook", ...]:
    """One hook, several or none.

    Raises:
        TrainerError: One of them is not to be made a hook of.
    """
    if value is None:
        return ()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(build(replace(HOOK, parameter=f"hooks[{index}]"), hook) for index, hook in enumerate(value))
    return (build(HOOK, value),)


def store_of(value: Any) -> "LightningStoreClient | str | Path | None":
    """A client of a store, its address, or the folder or file that it is in.

    Raises:
        TrainerError: It is none of them, and nothing that makes a client.
    """
    if value is None or isinstance(value, Path):
        return value
    if isinstance(value, str):
        if _is_path(value):
            return Path(value)
        if not _is_import_path(value):
            if not is_address(value):
                raise STORE.refused(value, "which is no address")
            return value
    return build(STORE, value)  # type: ignore[no-any-return]


def algorithm_of(spec: Any) -> "Algorithm":
    """The algorithm; a function with parameters is made one, as by `algo`.

    Raises:
        TrainerError: It is none, and nothing that makes one.
    """
    from agentlightning.algorithm import Algorithm, algo

    found = named(ALGORITHM, "baseline" if spec is None else spec)
    if callable(found) and not isinstance(found, type | Algorithm) and inspect.signature(found).parameters:
        return algo(found)
    return build(ALGORITHM, found)  # type: ignore[no-any-return]


def agent_of(agent: object, needed_by: str) -> "LitAgent[Any]":
    """The agent.

    Args:
        agent: What was given for it.
        needed_by: What cannot do without one, for the error.

    Raises:
        TrainerError: None is given.
        AgentError: It cannot be one.
    """
    from agentlightning.litagent import as_agent

    if agent is None:
        raise TrainerError(
            f"agent is None, and {needed_by}: give the agent, or train with n_runners=0 (or strategy='remote') where "
            "runners in any language are started elsewhere"
        )
    return as_agent(agent)


def tracer_of(spec: Any, instrumentors: Iterable[str] | None) -> "Tracer | None":
    """The tracer, or one with these instrumentors. None: that of the runner will do.

    Raises:
        TrainerError: It is none, or both are given.
    """
    if instrumentors is None:
        return None if spec is None else build(TRACER, spec)
    if isinstance(instrumentors, str):
        raise TrainerError(f"instrumentors is {instrumentors!r}, expected several names: [{instrumentors!r}]")
    if spec is not None:
        raise TrainerError(f"instrumentors is given beside tracer, which is {spec!r}: give them to it alone")
    return build(TRACER, {"type": "Tracer", "instrumentors": instrumentors})  # type: ignore[no-any-return]


def port_of(port: int | None, store: object) -> int | None:
    """The port of the embedded store.

    Raises:
        TrainerError: It is none, or the store is not an embedded one.
    """
    if port is None:
        return None
    whole_number("port", port, 0, _HIGHEST_PORT)
    if store is not None and not isinstance(store, Path):
        raise TrainerError(f"port is {port}, but store is {store!r}, which listens where it does: leave port out")
    return port


def folder_of(folder: object) -> Path:
    """The folder of results.

    Raises:
        TrainerError: It is no path.
    """
    from agentlightning.store.embedded import DEFAULT_FOLDER

    if folder is not None and not isinstance(folder, str | Path):
        raise TrainerError(f"folder is {folder!r}, expected the path of a folder")
    return DEFAULT_FOLDER if folder is None else Path(folder)


def queue_of(queue: object) -> str | None:
    """The name of a queue.

    Raises:
        TrainerError: It is none.
    """
    if queue is not None and not (isinstance(queue, str) and queue):
        raise TrainerError(f"queue is {queue!r}, expected the name of a queue")
    return queue


def prices_of(prices: object) -> dict[str, tuple[float, float]]:
    """What a million tokens cost, those sent and those that come back, by model.

    Raises:
        TrainerError: It is no dict, or has a price that is no pair of numbers.
    """
    wanted = "what a million tokens sent cost, and a million that come back: {'gpt-4.1-mini': (0.4, 1.6)}"
    if prices is None:
        return {}
    if not isinstance(prices, Mapping):
        raise TrainerError(f"prices is {prices!r}, expected by model {wanted}")
    for model, price in prices.items():
        if not isinstance(price, tuple | list) or len(price) != 2 or not all(map(_is_price, price)):
            raise TrainerError(f"prices[{model!r}] is {price!r}, expected two numbers: {wanted}")
    return {str(model): (sent, received) for model, (sent, received) in prices.items()}


def budget_of(budget: object, prices: Mapping[str, object]) -> "Budget":
    """What may be spent.

    Raises:
        TrainerError: It is none, or limits money and nothing says what that buys.
    """
    from agentlightning.algorithm import Budget

    if budget is None:
        return Budget()
    if not isinstance(budget, Budget):
        raise TrainerError(f"budget is {budget!r}, expected one: agl.Budget(rollouts=200)")
    if budget.money is not None and not prices:
        raise TrainerError(
            f"budget.money is {budget.money!r}, but prices is empty: give prices={{model: (in, out)}}, what a million "
            "tokens of each model cost"
        )
    return budget


def refuse_proxy(llm_proxy: object) -> None:
    """Say what to do instead of giving an LLM proxy.

    Raises:
        TrainerError: One is given.
    """
    if llm_proxy is not None:
        raise TrainerError(
            f"llm_proxy is {llm_proxy!r}, and there is no LLM proxy yet: give the agent its endpoint as a resource, "
            'initial_resources={"llm": agl.LLM(endpoint=..., model=...)}'
        )


def is_address(text: str) -> bool:
    """Whether a text is the address of a store."""
    try:
        parse_address(text)
    except InvalidRequestError:
        return False
    return True


def _is_path(value: str) -> bool:
    return "://" not in value and ("/" in value or value.endswith(".db") or Path(value).is_dir())


def _is_import_path(value: str) -> bool:
    """Whether it begins with a module that is there, and does not end in a port."""
    module = value.partition(".")[0]
    is_name = module.isidentifier() and not value.rpartition(":")[2].isdigit()
    return value in STORE.names or (is_name and module != value and importlib.util.find_spec(module) is not None)


def _is_price(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value >= 0


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
