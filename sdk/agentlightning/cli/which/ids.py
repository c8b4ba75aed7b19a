"""Objects by what a person types: an id, or how one begins. Errors name what there is."""

from collections.abc import Sequence

from agentlightning.cli.errors import NotUnderstoodError
from agentlightning.errors import NotFoundError
from agentlightning.store import LightningStoreClient
from agentlightning.types import ResourcesUpdate, Rollout, Run

_NAMED = 5


async def rollout(client: LightningStoreClient, text: str) -> Rollout:
    """A rollout by its id or the beginning of it.

    Raises:
        NotFoundError: There is none, or several begin so.
    """
    if (found := await client.get_rollout_by_id(text)) is not None:
        return found
    # What begins like an id stands nowhere else in one.
    matches = await client.query_rollouts(rollout_id_contains=_begun("ro-", text), limit=_NAMED)
    if matches.total == 1:
        return matches[0]
    newest = () if matches else await client.query_rollouts(sort_by="start_time", sort_order="desc", limit=_NAMED)
    raise _none_or_several(
        "rollout", text, [of.rollout_id for of in matches], matches.total, [of.rollout_id for of in newest]
    )


async def run(client: LightningStoreClient, text: str) -> Run:
    """A run by its id or the beginning of it.

    Raises:
        NotFoundError: There is none, or several begin so.
    """
    if (found := await client.get_run(text)) is not None:
        return found
    runs = await client.query_runs()
    matches = [run for run in runs if run.run_id.startswith(_begun("run-", text))]
    if len(matches) == 1:
        return matches[0]
    raise _none_or_several("run", text, [of.run_id for of in matches], len(matches), [of.run_id for of in runs])


async def resources(client: LightningStoreClient, text: str) -> ResourcesUpdate:
    """Resources by their id or the beginning of it, the last version or, after an @, the one named.

    Raises:
        NotFoundError: There are none, or several begin so, or not in that version.
        NotUnderstoodError: What stands after the @ is no version.
    """
    beginning, at, number = text.partition("@")
    if at and not (number.isdecimal() and int(number)):
        raise NotUnderstoodError(f"{number!r} is no version: write {beginning}@2")
    last = await _last_version(client, beginning)
    if not at or last.version == int(number):
        return last
    found = await client.get_resources_by_id(last.resources_id, int(number))
    if found is None:
        raise NotFoundError(
            f"there is no version {number} of resources {last.resources_id}; the last is {last.version}"
        )
    return found


async def _last_version(client: LightningStoreClient, text: str) -> ResourcesUpdate:
    if (found := await client.get_resources_by_id(text)) is not None:
        return found
    similar = await client.query_resources(resources_id_contains=text)
    matches = [found for found in similar if found.resources_id.startswith((text, f"rs-{text}"))]
    if len(matches) == 1:
        return matches[0]
    newest = [] if matches else await client.query_resources(sort_order="desc", limit=_NAMED)
    raise _none_or_several(
        "resources", text, [of.resources_id for of in matches], len(matches), [of.resources_id for of in newest]
    )


def _begun(prefix: str, text: str) -> str:
    return text if text.startswith(prefix) else prefix + text


def _none_or_several(noun: str, text: str, matches: Sequence[str], total: int, newest: Sequence[str]) -> NotFoundError:
    if matches:
        nouns = noun if noun.endswith("s") else f"{noun}s"
        return NotFoundError(f"{total} {nouns} begin with {text!r}: {_some(matches, total)}; type more of the id")
    return NotFoundError(f"{_none(noun)} {text!r}; the newest are: {_some(newest, len(newest)) or 'none'}")


def _none(noun: str) -> str:
    return f"there are no {noun}" if noun.endswith("s") else f"there is no {noun}"


def _some(found: Sequence[str], total: int) -> str:
    return ", ".join(found[:_NAMED]) + (", ..." if total > _NAMED else "")
