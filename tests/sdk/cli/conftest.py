"""`agl` as a person calls it, in this process: an interpreter for each line would cost more than all it does."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.cli import main


@dataclass(frozen=True)
class Told:
    """What a command came to."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def cells(self) -> list[list[str]]:
        """A table without its titles, each line by its first words."""
        return [line.split() for line in self.out.splitlines()[1:]]


Command = Callable[..., Awaitable[Told]]


@pytest.fixture
def anywhere(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command as it stands."""

    def run(arguments: tuple[str, ...]) -> int:
        try:
            return main(arguments)
        except SystemExit as ended:
            return int(ended.code or 0)

    async def command(*arguments: str) -> Told:
        status = await asyncio.to_thread(run, arguments)
        return Told(status, *capsys.readouterr())

    return command


@pytest.fixture
def command(anywhere: Command, store_address: str) -> Command:
    """Runs a command on the store of the module."""

    async def command(*arguments: str) -> Told:
        return await anywhere(*arguments, "--store", store_address)

    return command


@pytest.fixture
async def run_store(store: agl.LightningStoreClient) -> agl.LightningStoreClient:
    """A client of a run of the test's own."""
    return store.bind(run_id=(await store.create_run("APO")).run_id)
