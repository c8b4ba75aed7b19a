"""Objects by what a person types: an id, or how one begins. Errors name what there is."""

from collections.abc import Sequence

from agentlightning.errors import NotFoundError
from agentlightning.store import LightningStoreClient
from agentlightning.types import Rollout, Run

_NAMED = 5


async def rollout(client: LightningStoreClient, text: str) -> Rollout:
    """A rollout by its id or the beginning of it.

    Raises:
        NotFoundError: There is none, or several begin so.
    """
    if (found := await client.get_rollout_by_id(text)) is not None:
        return found
    # The store finds a text anywhere in an id; one more than are named tells whether there are more.
    similar = await client.query_rollouts(rollout_id_contains=text)
    matches = [rollout for rollout in similar if rollout.rollout_id.startswith(text)]
    if len(matches) == 1:
        return matches[0]
    newest = [] if matches else await client.query_rollouts(sort_by="start_time", sort_order="desc", limit=_NAMED)
    raise _none_or_several("rollout", text, [of.rollout_id for of in matches], [of.rollout_id for of in newest])


async def run(client: LightningStoreClient, text: str) -> Run:
    """A run by its id or the beginning of it.

    Raises:
        NotFoundError: There is none, or several begin so.
    """
    if (found := await client.get_run(text)) is not None:
        return found
    runs = await client.query_runs()
    matches = [run for run in runs if run.run_id.startswith(text)]
    if len(matches) == 1:
        return matches[0]
    raise _none_or_several("run", text, [of.run_id for of in matches], [of.run_id for of in runs])


def _none_or_several(noun: str, text: str, matches: Sequence[str], newest: Sequence[str]) -> NotFoundError:
    if matches:
        return NotFoundError(f"{len(matches)} {noun}s begin with {text!r}: {_some(matches)}; type more of the id")
    return NotFoundError(f"there is no {noun} {text!r}; the newest are: {_some(newest) or 'none'}")


def _some(found: Sequence[str]) -> str:
    return ", ".join(found[:_NAMED]) + (", ..." if len(found) > _NAMED else "")
