"""A real server on a real socket with a real file, for every test that needs a store."""

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from agentlightning import LightningStoreClient
from agentlightning.store.embedded import EmbeddedStore


@pytest.fixture(scope="module")
def store_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("store")
    with EmbeddedStore(folder) as store:
        yield store.address


@pytest.fixture
async def store(store_address: str) -> AsyncIterator[LightningStoreClient]:
    """A client with a queue of its own, so that the tests of a module share a server and nothing else."""
    client = LightningStoreClient(store_address, queue=f"test-{uuid.uuid4().hex[:8]}", retry_seconds=10)
    yield client
    await client.close()
