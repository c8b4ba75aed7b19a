"""Which rollouts a command is about: the options that say so, and what the store is asked for them."""

import argparse
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, get_args

from agentlightning.cli.which import ids
from agentlightning.store import LightningStoreClient
from agentlightning.types import Rollout, RolloutMode, RolloutStatus
from agentlightning.types.rollout import ROLLOUT_STATUSES


def options(*, run: bool = True) -> argparse.ArgumentParser:
    """The options, for the `parents` of a command's parser; without `run`, the command has that as an argument."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("which rollouts (all that is given must hold)")
    group.add_argument(
        "--status",
        action="append",
        choices=ROLLOUT_STATUSES,
        metavar="STATUS",
        help=f"in this status; may be given again for others ({', '.join(ROLLOUT_STATUSES)})",
    )
    if run:
        group.add_argument("--run", help="of this run: its id, or how it begins")
    group.add_argument("--queue", help="in this queue")
    group.add_argument("--label", action="append", type=_label, metavar="KEY=VALUE", help="with this label")
    group.add_argument("--mode", choices=get_args(RolloutMode), help="for this")
    return parser


@dataclass(frozen=True)
class Filter:
    """What must hold of a rollout."""

    store: LightningStoreClient
    """Bound to the run, if one is named."""
    statuses: list[RolloutStatus] | None
    mode: RolloutMode | None
    labels: dict[str, str]
    queue: str | None

    @classmethod
    async def of(cls, client: LightningStoreClient, arguments: argparse.Namespace) -> "Filter":
        """What a command line asks for.

        Raises:
            NotFoundError: It names a run that there is not.
        """
        store = client
        if arguments.run is not None:
            store = client.bind(run_id=(await ids.run(client, arguments.run)).run_id)
        labels = dict(arguments.label or ())
        return cls(store, arguments.status, arguments.mode, labels, arguments.queue)

    @property
    def query(self) -> dict[str, Any]:
        """What a list of rollouts takes."""
        return {"status_in": self.statuses, "mode": self.mode, "labels": self.labels, "queue": self.queue}

    def rollouts(self, statuses: list[RolloutStatus] | None = None) -> AsyncGenerator[Rollout, None]:
        """Those that there are; in one of these statuses unless the command line names others."""
        return self.store.iter_rollouts(**{**self.query, "status_in": self.statuses or statuses})

    def matches(self, rollout: Rollout) -> bool:
        """Whether all but the run and the queue, which a watch is told, holds of a rollout."""
        return (
            (self.statuses is None or rollout.status in self.statuses)
            and (self.mode is None or rollout.mode == self.mode)
            and self.labels.items() <= rollout.labels.items()
        )


def names_any(arguments: argparse.Namespace) -> bool:
    """Whether a command line has any of the options, but for the queue, which may be set for good."""
    return any(getattr(arguments, name) is not None for name in ("status", "run", "label", "mode"))


def _label(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not (key and separator):
        raise argparse.ArgumentTypeError(f"{text!r} is no label, such as split=hard")
    return key, value
