"""The agents of the examples, each with the packages it is about, or skipped without them."""

import importlib.util
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.testing import OpenAIServer

EXAMPLES = Path(__file__).parents[3] / "examples"
PACKAGES = {
    "langgraph_agent": ["langchain_openai", "langgraph"],
    "openai_agents": ["agents"],
    "litellm_agent": ["litellm"],
}
FIRST_PROMPT = "Is it warmer in {one} or in {other}?"

Run = Callable[[agl.Tracer], Awaitable[list[agl.Span]]]


def needs(*modules: str) -> None:
    """Skip the test where a package is missing."""
    for module in modules:
        pytest.importorskip(module, reason=f"{module} is not installed; `make test-integrations` installs it")


@pytest.fixture(params=PACKAGES)
def folder(request: pytest.FixtureRequest) -> str:
    """The folder of an example."""
    needs(*PACKAGES[request.param])
    return str(request.param)


@pytest.fixture
def example(folder: str) -> ModuleType:
    """Its script, as a module."""
    spec = importlib.util.spec_from_file_location(folder, EXAMPLES / folder / "train.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def model(example: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Its stand-in model, at the address that every client takes from the environment."""
    with OpenAIServer(example.offline_model) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        yield


@pytest.fixture
def run(example: ModuleType, model: None, store: agl.LightningStoreClient) -> Run:
    """Runs its agent on one task, and reads the spans back from the store."""

    async def run_with(tracer: agl.Tracer) -> list[agl.Span]:
        runner: agl.LitAgentRunner[Any] = agl.LitAgentRunner(tracer=tracer)
        with runner.run_context(agent=example.warmer, store=store):
            task = {"one": "Oslo", "other": "Rome"}
            rollout = await runner.step(task, resources={"prompt_template": FIRST_PROMPT})
        return list(await store.query_spans(rollout.rollout_id))

    return run_with
