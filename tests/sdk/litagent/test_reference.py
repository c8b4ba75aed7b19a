"""Agents named by the place where they are."""

import sys
from collections.abc import Iterator
from pathlib import Path

import agentlightning as agl
import pytest
from agentlightning.litagent.reference import agent_at

MODULE = """
import agentlightning as agl

@agl.rollout
def decorated(task: str) -> float:
    return 1.0

def plain(task):
    return len(task)

class Agents:
    longest = plain

class Agent(agl.LitAgent):
    pass

number = 3
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory; what is imported from it is forgotten afterwards."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "desks.py").write_text(MODULE)
    (tmp_path / "sub" / "beside.py").write_text("half = 0.5")
    (tmp_path / "sub" / "agent.py").write_text("import beside\ndef select(task): return beside.half")
    (tmp_path / "broken.py").write_text("import not_installed_here\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


@pytest.mark.parametrize("reference", ["desks:decorated", "desks:plain", "desks.py:plain", "desks:Agents.longest"])
def test_a_module_of_the_working_directory_is_found_by_name_and_by_path(reference: str) -> None:
    assert isinstance(agent_at(reference), agl.LitAgent)


def test_a_file_imports_what_is_beside_it(folder: Path) -> None:
    assert agent_at("sub/agent.py:select")("task") == 0.5  # type: ignore[operator]
    assert agent_at(f"{folder}/sub/agent.py:select").needs_resources is False


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("desks", "expected module:attribute, or path/file.py:attribute"),
        ("desks:", "expected module:attribute, or path/file.py:attribute"),
        ("desks:no-name", "expected module:attribute, or path/file.py:attribute"),
        ("nowhere:agent", "there is no module 'nowhere' in "),
        ("nowhere/agent.py:agent", "there is no file '"),
        ("desks:slect", "desks has no 'slect'; it has decorated, plain"),
        ("desks:number", "desks:number: an agent is a LitAgent or a function; 3 is neither; it has decorated, plain"),
        ("desks:Agent", "give an instance of it"),
        ("broken:agent", "broken cannot be imported: ModuleNotFoundError: No module named 'not_installed_here' ("),
        ("broken.py:agent", "broken.py, line 1)"),
    ],
)
def test_what_is_no_agent_is_an_error_that_names_the_way_out(reference: str, message: str) -> None:
    with pytest.raises(agl.AgentError) as refusal:
        agent_at(reference)
    assert message in str(refusal.value)
