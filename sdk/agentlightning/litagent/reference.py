"""An agent by the place where it is, as a command names it. Imports it, and knows nobody who runs it."""

import importlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from agentlightning.errors import AgentError
from agentlightning.litagent.function import as_agent
from agentlightning.litagent.litagent import LitAgent

_FORM = "expected module:attribute, or path/file.py:attribute"


def agent_at(reference: str) -> LitAgent[Any]:
    """Import an agent: `package.module:agent`, or `path/to/file.py:agent`.

    Modules of the working directory are found, and of a file those beside it.

    Raises:
        AgentError: There is none; the message says what is there.

    Example:
        >>> agent_at("math:sqrt").needs_resources
        False
    """
    place, attribute = split_reference(reference)
    module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    found: object = module
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise AgentError(f"{place} has no {attribute!r}; {_agents_of(module)}") from None
    try:
        return as_agent(found)
    except AgentError as error:
        raise AgentError(f"{reference}: {error}; {_agents_of(module)}") from None


def split_reference(reference: str) -> tuple[str, str]:
    """The module or file of a reference, and the attribute.

    Raises:
        AgentError: It is no reference.

    Example:
        >>> split_reference("rooms/agent.py:select")
        ('rooms/agent.py', 'select')
    """
    place, _, attribute = reference.rpartition(":")
    is_file = place.endswith(".py")
    if not attribute.replace(".", "_").isidentifier() or not (is_file or place.replace(".", "_").isidentifier()):
        raise AgentError(f"agent is {reference!r}, {_FORM}")
    return place, attribute


def _import_module(name: str) -> ModuleType:
    _look_in(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _unimportable(name, error) from error
        raise AgentError(
            f"there is no module {error.name!r} in {Path.cwd()} or among what is installed; go to the folder it is in, "
            "or name the file: path/file.py:attribute"
        ) from None
    except Exception as error:
        raise _unimportable(name, error) from error


def _import_file(path: Path) -> ModuleType:
    """Import a file as a module of its own name, as Python would that runs beside it."""
    if not path.is_file():
        raise AgentError(f"there is no file {os.fspath(path.absolute())!r}")
    _look_in(Path.cwd())
    _look_in(path.parent.resolve())
    name = path.stem if path.stem not in sys.modules else f"_agent_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise _unimportable(os.fspath(path), error) from error
    return module


def _look_in(folder: Path) -> None:
    if os.fspath(folder) not in sys.path:
        sys.path.insert(0, os.fspath(folder))


def _unimportable(place: str, error: Exception) -> AgentError:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return AgentError(
        f"{place} cannot be imported: {type(error).__name__}: {error} ({where.filename}, line {where.lineno})"
    )


def _agents_of(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, LitAgent)]
    names += [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
        if callable(value) and not isinstance(value, LitAgent | type)
    ]
    return f"it has {', '.join(names)}" if names else "it has no agent and no function"
