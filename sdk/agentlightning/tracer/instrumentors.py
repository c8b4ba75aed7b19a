"""OpenTelemetry's instrumentors of other packages, found by the names they are installed under. Knows none of them.

A distribution that brings one announces it as an entry point, so that this works with anybody's and imports none before
it is enabled.
"""

import logging
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from opentelemetry import trace

from agentlightning.errors import InstrumentationError

_log = logging.getLogger(__name__)

_GROUP: Final = "opentelemetry_instrumentor"

# Not `openai`: the tracer's own spans of its calls say more, so another instrumentor's would only be dropped.
GEN_AI: Final = {
    "agno": "agno",
    "anthropic": "anthropic",
    "bedrock": "botocore",
    "cohere": "cohere",
    "crewai": "crewai",
    "dspy": "dspy",
    "google_genai": "google.genai",
    "groq": "groq",
    "haystack": "haystack",
    "langchain": "langchain_core",
    "litellm": "litellm",
    "llama_index": "llama_index",
    "llamaindex": "llama_index",
    "mistralai": "mistralai",
    "ollama": "ollama",
    "openai_agents": "agents",
    "vertexai": "vertexai",
}
"""The instrumentors of agent frameworks and of models' clients, and the module that each is about."""


def gen_ai_instrumentors() -> tuple[str, ...]:
    """The names of `GEN_AI` that are installed and of use here.

    An instrumentor imports what it is about, which takes seconds for some: one whose module the program has not
    imported is left out.
    """
    return tuple(name for name in sorted(_installed()) if GEN_AI.get(name) in sys.modules)


def checked(names: Iterable[str]) -> tuple[str, ...]:
    """The names as they are known here, each once.

    Raises:
        InstrumentationError: One of them is not installed.
    """
    installed = _installed()
    for name in (wanted := tuple(dict.fromkeys(names))):
        if _canonical(name) not in installed:
            raise InstrumentationError(
                f"instrumentors has {name!r}, which is not installed; "
                f"installed are: {', '.join(sorted(installed)) or 'none'}"
            )
    return tuple(dict.fromkeys(map(_canonical, wanted)))


def enable(name: str, provider: trace.TracerProvider) -> list[Callable[[], None]]:
    """Enable every instrumentor of a name, unless the program has done so itself. One that fails is logged.

    Returns:
        What undoes it.
    """
    undo: list[Callable[[], None]] = []
    for entry_point in _installed().get(name, ()):
        try:
            instrumentor: Any = entry_point.load()()
            if not instrumentor.is_instrumented_by_opentelemetry:
                instrumentor.instrument(tracer_provider=provider)
                if instrumentor.is_instrumented_by_opentelemetry:  # else it has logged which version it wants
                    undo.append(instrumentor.uninstrument)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            _log.warning("instrumentor %r (%s) is left out: %s", name, entry_point.value, reason)
    return undo


def _installed() -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for entry_point in entry_points(group=_GROUP):
        found.setdefault(_canonical(entry_point.name), []).append(entry_point)
    return found


def _canonical(name: str) -> str:
    return name.replace("-", "_").lower()
