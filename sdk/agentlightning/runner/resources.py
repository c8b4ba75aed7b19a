"""The resources of a rollout, from the store or remembered: a version never changes. Knows the store alone."""

import copy
from typing import Final

from agentlightning.errors import NotFoundError
from agentlightning.store.base import LightningStore
from agentlightning.types import NamedResources, Rollout

_REMEMBERED: Final = 64


class ResourceReader:
    """Reads the resources of rollouts, and remembers the versions read last."""

    def __init__(self, store: LightningStore) -> None:
        self._store = store
        self._versions: dict[tuple[str, int | None], NamedResources] = {}

    async def read(self, rollout: Rollout) -> NamedResources:
        """The resources pinned to a rollout, else the latest, else none.

        Raises:
            NotFoundError: When those pinned are not there, which is no fault of the agent's.
        """
        if rollout.resources_id is None:
            latest = await self._store.get_latest_resources()
            return latest.resources if latest else {}
        key = (rollout.resources_id, rollout.resources_version)
        remembered = self._versions.get(key) or await self._fetch(*key)
        if rollout.resources_version is not None:
            self._versions[key] = remembered
        if len(self._versions) > _REMEMBERED:
            del self._versions[next(iter(self._versions))]
        return copy.deepcopy(remembered)  # What one agent does to its resources is not to reach the next.

    async def _fetch(self, resources_id: str, version: int | None) -> NamedResources:
        found = await self._store.get_resources_by_id(resources_id, version)
        if found is None:
            raise NotFoundError(
                f"the rollout asks for version {version or 'latest'} of the resources {resources_id!r}; the store has "
                "no such version",
                code="NOT_FOUND",
                reason="RESOURCES_NOT_FOUND",
            )
        return found.resources
