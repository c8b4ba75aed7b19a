"""Where runners are to run, from what users write for it. Knows neither processes nor threads."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from agentlightning.errors import TrainerError
from agentlightning.trainer.components import load

if TYPE_CHECKING:
    from agentlightning.trainer.execution import MakeRunners, Strategy

_log = logging.getLogger(__name__)

_NAMES: Final[Mapping[str, "Strategy"]] = {
    "processes": "processes",
    "cs": "processes",
    "threads": "threads",
    "shm": "threads",
}
_WITHOUT_EFFECT: Final = frozenset(
    {
        "allowed_exit_codes",
        "graceful_delay",
        "graceful_timeout",
        "join_timeout",
        "main_process",
        "main_thread",
        "managed_store",
        "poll_interval",
        "server_host",
        "terminate_timeout",
    }
)
"""What the strategies of existing code are given and these have no use for."""


@dataclass(frozen=True)
class Placement:
    """Where runners are to run.

    Attributes:
        strategy: The strategy. None: whichever is possible, processes first.
        n_runners: How many, if that was said with it.
        port: Where the embedded store is to listen, if that was said with it.
    """

    strategy: "Strategy | MakeRunners | None"
    n_runners: int | None = None
    port: int | None = None


def placement_of(value: Any) -> Placement:
    """What a strategy says: a name, something that makes runners, or a dict with "type" and what goes with it.

    Raises:
        TrainerError: It is none of them.
    """
    if not isinstance(value, Mapping):
        return Placement(None if value is None else _strategy(value, value))
    arguments = dict(value)
    if "type" not in arguments:
        raise _refused(value, 'a dict without "type"')
    strategy = _strategy(value, arguments.pop("type"))
    if callable(strategy):
        return Placement(partial(strategy, **arguments))
    n_runners, port = arguments.pop("n_runners", None), arguments.pop("server_port", None)
    if unknown := sorted(map(str, arguments.keys() - _WITHOUT_EFFECT)):
        raise _refused(value, f"in which nothing is known of {', '.join(unknown)}")
    if arguments:
        _log.warning("Of the strategy, %s have no effect and can go.", ", ".join(sorted(arguments)))
    return Placement(strategy, n_runners, port)


def _strategy(value: object, written: object) -> "Strategy | MakeRunners":
    if isinstance(written, str):
        return _NAMES.get(written.lower()) or _strategy(value, _found(value, written))
    if isinstance(written, Callable):  # type: ignore[arg-type]
        return written  # type: ignore[return-value]
    raise _refused(value, f"of the type {type(written).__qualname__}")


def _found(value: object, path: str) -> object:
    try:
        return load(path)
    except (ImportError, AttributeError, ValueError) as error:
        reason = f"which cannot be found ({error})" if "." in path else "which is no short name"
        raise _refused(value, reason) from error


def _refused(value: object, reason: str) -> TrainerError:
    return TrainerError(
        f"strategy is {value!r}, {reason}; expected one of the names {', '.join(map(repr, _NAMES))}, a class or "
        'function that makes Runners of (work, count), its import path, or a dict with "type", which is any of these, '
        "n_runners and server_port"
    )
