"""Where runners are to run, from what users write for it. Knows neither processes nor threads."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from agentlightning.trainer.arguments.components import STRATEGY, build

if TYPE_CHECKING:
    from agentlightning.trainer.runners.execution import ExecutionStrategy, Strategy

_log = logging.getLogger(__name__)

_NAMES: Final[Mapping[str, "Strategy"]] = {
    "processes": "processes",
    "cs": "processes",
    "threads": "threads",
    "shm": "threads",
    "remote": "remote",
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

    strategy: "Strategy | ExecutionStrategy | None"
    n_runners: int | None = None
    port: int | None = None


def placement_of(value: Any) -> Placement:
    """What a strategy says: a name, an object, what makes one, or a dict with "type" and what goes with it.

    Raises:
        TrainerError: It is none of them.
    """
    if value is None:
        return Placement(None)
    arguments = dict(value) if isinstance(value, Mapping) else {"type": value}
    if (strategy := _named(arguments.pop("type", None))) is None:
        return Placement(build(STRATEGY, value))
    n_runners, port = arguments.pop("n_runners", None), arguments.pop("server_port", None)
    if unknown := sorted(map(str, arguments.keys() - _WITHOUT_EFFECT)):
        raise STRATEGY.refused(value, f"in which nothing is known of {', '.join(unknown)}")
    if arguments:
        _log.warning("Of the strategy, %s have no effect and can go.", ", ".join(sorted(arguments)))
    return Placement(strategy, n_runners, port)


def needs_agent(strategy: "Strategy | ExecutionStrategy | None", n_runners: int) -> bool:
    """Whether its runners are given the agent, as all are that are not started elsewhere or in another language."""
    return strategy != "remote" and n_runners > 0 and bool(getattr(strategy, "needs_agent", True))


def _named(written: object) -> "Strategy | None":
    return _NAMES.get(written.lower()) if isinstance(written, str) else None
