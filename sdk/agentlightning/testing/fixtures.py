"""Stores as pytest fixtures: `pytest_plugins = ["agentlightning.testing.fixtures"]` in a test file or `conftest.py`.

The fixtures are plain, so that tests may be plain or async. Only this module imports pytest.
"""

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agentlightning.store import LightningStoreClient
from agentlightning.testing.clock import FakeClock
from agentlightning.testing.store import TemporaryStore

_RETRY_SECONDS = 10.0


@pytest.fixture(scope="module")
def store_address() -> Iterator[str]:
    """The address of a store that the tests of a module share."""
    with TemporaryStore() as store:
        yield store.address


@pytest.fixture
def store(store_address: str) -> Iterator[LightningStoreClient]:
    """A client with a queue of its own, so that the tests of a module share a server and nothing else."""
    with _client_of(store_address) as client:
        yield client


@pytest.fixture
def clock() -> FakeClock:
    """The clock of `clocked_store`: moved by `clock.advance(seconds)`."""
    return FakeClock()


@pytest.fixture
def clocked_store(clock: FakeClock) -> Iterator[LightningStoreClient]:
    """A client of a store that is the test's alone, and whose time is that of `clock`."""
    with TemporaryStore(clock) as store, _client_of(store.address) as client:
        yield client


@contextmanager
def _client_of(address: str) -> Iterator[LightningStoreClient]:
    client = LightningStoreClient(address, queue=f"test-{uuid.uuid4().hex[:8]}", retry_seconds=_RETRY_SECONDS)
    try:
        yield client
    finally:
        loop = asyncio.new_event_loop()  # unlike asyncio.run, this leaves the loop of an async test's plugin in place
        try:
            loop.run_until_complete(client.close())
        finally:
            loop.close()
