"""Which runners are under test: that of --runner, else ours in every language. Each plays its scenarios in one go."""

import shlex
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from tests.conformance.stage import Stage

HERE = Path(__file__).parent
AGL_RUNNER = [sys.executable, "-m", "agentlightning", "runner"]
OURS = ("python", "go", "typescript", "command")
FAILED = pytest.StashKey[bool]()
Built = Callable[[str], Path]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--runner", metavar="COMMAND", help="the runner under test, with the conformance agent in it")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The suite's own tests say nothing about somebody's runner."""
    return True if collection_path.name == "test_suite.py" and config.getoption("--runner", None) else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "command" in metafunc.fixturenames:
        given = metafunc.config.getoption("--runner", None)
        ids = ["given"] if given else OURS
        metafunc.parametrize("command", [given] if given else OURS, ids=ids, indirect=True, scope="session")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture(scope="session")
def command(request: pytest.FixtureRequest, built: Built) -> list[str]:
    """The runner under test, as it is started."""
    match request.param:
        case "python":
            return [*AGL_RUNNER, f"{HERE / 'agent.py'}:agent"]
        case "go":
            return [str(built("examples/go_runner/bin/conformance"))]
        case "typescript":
            return ["node", str(built("examples/ts_runner/dist/conformance.js"))]
        case "command":
            if shutil.which("jq") is None:
                pytest.skip("the agent in shell reads its task with jq, which is not here")
            return [*AGL_RUNNER, "--command", str(built("tests/conformance/agent.sh"))]
    return shlex.split(request.param)


class Stages:
    """The stage of a runner, and another one after a scenario has failed, so that each fails for its own sake."""

    def __init__(self, command: list[str], make_folder: Callable[[], Path]) -> None:
        self._command = command
        self._make_folder = make_folder
        self._open = AsyncExitStack()
        self._stage: Stage | None = None

    async def ready(self) -> Stage:
        if self._stage is None:
            self._stage = await self._open.enter_async_context(Stage(self._command, self._make_folder()).open())
        await self._stage.ready()
        return self._stage

    async def close(self) -> None:
        self._stage = None
        await self._open.aclose()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stages(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stages]:
    stages = Stages(command, lambda: tmp_path_factory.mktemp("stage"))
    yield stages
    await stages.close()


@pytest_asyncio.fixture(loop_scope="session")
async def stage(stages: Stages, request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    """A store, a proxy and the runner under test, which is free."""
    yield await stages.ready()
    if request.node.stash.get(FAILED, False):
        await stages.close()
