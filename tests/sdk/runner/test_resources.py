import pytest
from agentlightning.errors import NotFoundError
from agentlightning.runner.resources import ResourceReader
from agentlightning.types import PromptTemplate, ResourcesUpdate, Rollout


class Resources:
    """Holds versions, and counts how often they are read."""

    def __init__(self, *versions: int) -> None:
        self.reads: list[int | None] = []
        self._versions = versions

    async def get_resources_by_id(self, resources_id: str, version: int | None = None) -> ResourcesUpdate | None:
        self.reads.append(version)
        version = version or max(self._versions, default=0)
        return bundle(resources_id, version) if version in self._versions else None

    async def get_latest_resources(self) -> ResourcesUpdate | None:
        return bundle("rs-latest", max(self._versions)) if self._versions else None


def bundle(resources_id: str, version: int) -> ResourcesUpdate:
    prompt = PromptTemplate(template=f"{resources_id} {version}")
    return ResourcesUpdate(
        resources_id=resources_id, version=version, create_time=0, update_time=0, resources={"prompt": prompt}
    )


def a_rollout(resources_id: str | None = None, version: int | None = None) -> Rollout:
    return Rollout(rollout_id="ro-1", input=0, start_time=0, resources_id=resources_id, resources_version=version)


async def template(reader: ResourceReader, rollout: Rollout) -> str:
    return (await reader.read(rollout))["prompt"].template


async def test_the_pinned_version_is_read_once() -> None:
    store = Resources(1, 2)
    reader = ResourceReader(store)
    assert [await template(reader, a_rollout("rs-1", 1)) for _ in range(2)] == ["rs-1 1", "rs-1 1"]
    assert store.reads == [1]


async def test_without_a_version_the_last_one_is_read_each_time() -> None:
    store = Resources(1, 2)
    reader = ResourceReader(store)
    assert [await template(reader, a_rollout("rs-1")) for _ in range(2)] == ["rs-1 2", "rs-1 2"]
    assert store.reads == [None, None]


async def test_without_resources_of_its_own_a_rollout_gets_the_latest() -> None:
    assert await template(ResourceReader(Resources(1)), a_rollout()) == "rs-latest 1"


async def test_without_any_resources_a_rollout_gets_none() -> None:
    assert await ResourceReader(Resources()).read(a_rollout()) == {}


async def test_resources_that_are_not_there_are_named() -> None:
    with pytest.raises(NotFoundError, match="asks for version 3 of the resources 'rs-1'"):
        await ResourceReader(Resources(1)).read(a_rollout("rs-1", 3))


async def test_what_an_agent_does_to_its_resources_does_not_reach_the_next() -> None:
    reader = ResourceReader(Resources(1))
    (await reader.read(a_rollout("rs-1", 1)))["prompt"].template = "changed"
    assert await template(reader, a_rollout("rs-1", 1)) == "rs-1 1"


async def test_few_versions_are_remembered() -> None:
    store = Resources(*range(1, 101))
    reader = ResourceReader(store)
    for version in (*range(1, 101), 1):
        await reader.read(a_rollout("rs-1", version))
    assert len(store.reads) == 101
