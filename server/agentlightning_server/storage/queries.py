"""Reads `.sql` files whose queries have names, so that no SQL stands in Python."""

import re
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@cache
def queries() -> dict[str, str]:
    """The queries of `queries.sql` by name."""
    _, *parts = _NAME.split((files(__package__) / "queries.sql").read_text(encoding="utf-8"))
    return dict(zip(parts[::2], (text.strip().rstrip(";") for text in parts[1::2]), strict=True))


@cache
def migrations() -> list[str]:
    """The migrations, in order: the first brings an empty file to version 1."""
    folder = files(__package__) / "migrations"
    scripts = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    return [script.read_text(encoding="utf-8") for script in scripts]
