"""Agent Lightning: run an agent, record what it did, change what it is given. `import agentlightning as agl`.

The public names stand in `__init__.pyi`, once for type checkers and for us. Each is loaded on first use, so that
importing this costs nothing that the program does not need.
"""

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

_HOME_OF = {
    alias.name: node.module or ""
    for node in ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    try:
        home = _HOME_OF[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
