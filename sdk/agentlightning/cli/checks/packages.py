"""Whether this Python and its packages are what the distribution asks for, and what optional parts would add."""

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, entry_points, requires, version
from typing import Final

from packaging.requirements import Requirement

from agentlightning.cli.checks.finding import Finding

DISTRIBUTION: Final = "agl-protocol"

_PARTS: Final = (
    ("jinja2", "pip install 'agl-protocol[jinja]'", 'PromptTemplate(engine="jinja")'),
    ("litellm", "pip install litellm", "agents that call any provider's models through LiteLLM, recorded as they are"),
    ("openai-agents", "pip install openai-agents", "agents of the OpenAI Agents SDK, recorded as they are"),
    ("langgraph", "pip install langgraph langchain-openai", "agents that are graphs, recorded as they are"),
)
_STEPS: Final = {
    "langchain-core": "langchain",
    "llama-index-core": "llama_index",
    "crewai": "crewai",
    "haystack-ai": "haystack",
}
"""Frameworks whose own steps become spans only with OpenTelemetry's instrumentor of that name."""


def packages() -> Iterator[Finding]:
    """Look at the interpreter, the packages that are needed, and those that could be there."""
    own = _version(DISTRIBUTION)
    if own is None:
        yield Finding("packages", "warning", f"{DISTRIBUTION} is not installed here", "pip install -e . in its folder")
        return
    yield Finding("python", "ok", f"Python {platform.python_version()}, {DISTRIBUTION} {own}")
    declared = map(Requirement, requires(DISTRIBUTION) or [])
    needed = [requirement for requirement in declared if not requirement.marker or requirement.marker.evaluate()]
    amiss = [finding for requirement in needed if (finding := _amiss(requirement))]
    yield from amiss or [Finding("packages", "ok", f"{len(needed)} packages are in the ranges that were declared")]
    for part, way_out, gain in _PARTS:
        is_there = _version(part) is not None
        what = f"{part} {'is' if is_there else 'is not'} installed: {gain}"
        yield Finding("optional", "ok", what, "" if is_there else way_out)
    yield from _steps()


def _amiss(requirement: Requirement) -> Finding | None:
    name, bounds = requirement.name, requirement.specifier
    found = _version(name)
    way_out = f"pip install '{name}{bounds}'"
    if found is None:
        return Finding("packages", "problem", f"{name} is not installed", way_out)
    if bounds.contains(found, prereleases=True):
        return None
    return Finding("packages", "problem", f"{name} is {found}, wanted is {bounds}", way_out)


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _steps() -> Iterator[Finding]:
    known = {entry_point.name for entry_point in entry_points(group="opentelemetry_instrumentor")}
    for framework, instrumentor in _STEPS.items():
        if _version(framework) is not None and instrumentor not in known:
            yield Finding(
                "optional",
                "ok",
                f"{framework} is installed: its calls of models are recorded, and its own steps are not",
                f"pip install opentelemetry-instrumentation-{instrumentor.replace('_', '-')}",
            )
