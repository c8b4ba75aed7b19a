"""The code blocks of the seeds, the documents that this project started from, and what runs them."""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import openai
import pytest
from agentlightning.testing import OpenAIServer

Block = Callable[..., str]
_NOTHING: Mapping[str, str] = MappingProxyType({})


@pytest.fixture
def block(request: pytest.FixtureRequest) -> Block:
    """The code block below a heading of the seed that the test's module is named after, with parts of it filled in."""
    text = request.path.with_name(request.path.stem.removeprefix("test_") + ".md").read_text()
    blocks = dict(re.findall(r"^## ([^\n]+)\n\n```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))

    def get(heading: str, filled_in: Mapping[str, str] = _NOTHING) -> str:
        code: str = blocks[heading]
        for part, by in filled_in.items():
            assert code.count(part) == 1, f"{part!r} does not stand once in the block"
            code = code.replace(part, by)
        return code

    return get


@pytest.fixture
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    """A model that says what `answer` of the test's module does, at the address that clients take from the environment.

    The clients are closed afterwards, as the seeds do not.
    """
    made: list[openai.OpenAI] = []

    class Client(openai.OpenAI):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(openai, "OpenAI", Client)
    with OpenAIServer(request.module.answer) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        yield server
        for client in made:
            client.close()


Run = Callable[..., Any]


@pytest.fixture
def run() -> Run:
    """Runs a block in a namespace as a notebook does: it may await."""

    async def run_block(code: str, names: dict[str, Any]) -> None:
        compiled = compile(code, "<seed>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        outcome = eval(compiled, names)
        if inspect.isawaitable(outcome):
            await outcome

    return run_block


RunScript = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run_script(tmp_path: Path) -> RunScript:
    """Runs a script in a folder and a process of its own."""

    def run_it(script: str) -> "subprocess.CompletedProcess[str]":
        (tmp_path / "script.py").write_text(script)
        command = [sys.executable, "script.py"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    return run_it
