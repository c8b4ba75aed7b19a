"""What the options of `agl` are when no flag says it: `AGL_<NAME>`, else `[tool.agentlightning]` of pyproject.toml.

Every option of every command is a setting by its name, but for those that say which objects, or what only once. Knows
the options by their parser and those of the server by a list, and no command.
"""

import argparse
import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentlightning.cli.errors import NotUnderstoodError

PREFIX = "AGL_"
TEST_PREFIX = "AGL_TEST_"
"""Variables of this project's own tests, which set nothing."""
RESUME = "AGL_RESUME"
"""Says to a program which run it goes on with, and sets nothing."""
OF_ROLLOUTS = frozenset(
    {
        "AGL_ROLLOUT_ID",
        "AGL_ATTEMPT_ID",
        "AGL_ATTEMPT_SEQUENCE",
        "AGL_MODE",
        "AGL_TASK_FILE",
        "AGL_RESOURCES_FILE",
    }
)
"""What a command is told that a runner runs: what it calls itself is set by none of them."""
TABLE = "tool.agentlightning"
SERVER: Mapping[str, type] = {
    "db": str,
    "host": str,
    "port": int,
    "keep_days": float,
    "keep_runs": int,
    "vacuum": bool,
    "log_level": str,
}
"""The options of `agl store`, which is another package's command."""
ONLY_FLAGS = frozenset(
    {
        "help",
        "version",
        "yes",
        "to",
        "status",
        "run",
        "label",
        "mode",
        "best",
        "name",
        "all",
        "attempt",
        "full",
        "once",
        "lifeline",
        "markdown",
        "html",
        "attribute",
    }
)
"""Options that say which objects or what once: set for good, they would change commands behind one's back."""

_Options = list[tuple[argparse.ArgumentParser, argparse.Action]]
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


class SettingError(NotUnderstoodError):
    """A setting that there is not, or that has a value it cannot have."""


@dataclass(frozen=True)
class Setting:
    """The value of an option where no flag gives another."""

    name: str
    value: Any
    source: str
    """The variable or the file that says so, or `default`."""


class _Replaced(list[Any]):
    """A list that flags replace; argparse copies a default and adds to the copy."""

    def __copy__(self) -> list[Any]:
        return []


@dataclass(frozen=True)
class _Said:
    """What an environment or a file says of a setting."""

    name: str
    value: Any
    source: str

    @property
    def is_variable(self) -> bool:
        return self.source.startswith(PREFIX)

    def spelled(self, name: str) -> str:
        """The name of a setting as it is written where this was said."""
        return PREFIX + name.upper() if self.is_variable else name.replace("_", "-")

    def wrong(self, expected: str) -> SettingError:
        return SettingError(f"{self.source} is {self.value!r}, expected {expected}")


def apply(parser: argparse.ArgumentParser) -> list[Setting]:
    """Make what is set the defaults of all commands, and list every setting, what it is and where that comes from.

    Raises:
        SettingError: Something is set that is no setting, or to what it cannot be.
    """
    options = _options(parser)
    said = _said({*options, *SERVER})
    return [_applied(name, options.get(name, []), said.get(name)) for name in sorted({*options, *SERVER})]


def server_flags(parser: argparse.ArgumentParser) -> list[str]:
    """What is set of a server, as flags of its command.

    Raises:
        SettingError: As `apply`.
    """
    flags: list[str] = []
    said = _said({*_options(parser), *SERVER})
    for name, kind in SERVER.items():
        if name in said and (value := _of_type(kind, said[name])) is not False:
            flag = f"--{name.replace('_', '-')}"
            flags.append(flag if value is True else f"{flag}={value}")
    return flags


def _applied(name: str, options: _Options, told: _Said | None) -> Setting:
    if told is None:
        return Setting(name, options[0][1].default if options else None, "default")
    value = _value(options[0][1], told) if options else _of_type(SERVER[name], told)
    for command, _ in options:
        command.set_defaults(**{name: value})
    return Setting(name, value, told.source)


def _options(parser: argparse.ArgumentParser) -> dict[str, _Options]:
    """The options of all commands that are settings, by name, each with the commands that have it."""
    found: dict[str, _Options] = {}
    for command in _commands(parser):
        for action in command._actions:
            if action.option_strings and action.dest not in ONLY_FLAGS:
                found.setdefault(action.dest, []).append((command, action))
    return found


def _commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _commands(command)


def _said(known: set[str]) -> dict[str, _Said]:
    """What is set, each setting by the first who says it: the environment, then the file."""
    said = {}
    for told in (*_in_file(), *_in_environment()):
        if told.name not in known:
            raise _unknown(told, known)
        said[told.name] = told
    return said


def _in_environment() -> Iterator[_Said]:
    for variable, text in sorted(os.environ.items()):
        if (
            variable.startswith(PREFIX)
            and not variable.startswith(TEST_PREFIX)
            and variable not in (RESUME, *OF_ROLLOUTS)
        ):
            yield _Said(variable.removeprefix(PREFIX).lower(), text, variable)


def _in_file() -> Iterator[_Said]:
    path = _nearest_file()
    if path is None:
        return
    try:
        table: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingError(f"{path} cannot be read: {error}") from None
    for part in TABLE.split("."):
        table = table.get(part, {})
        if not isinstance(table, dict):
            raise SettingError(f"{part} of {path} is {table!r}, expected a table: [{TABLE}]")
    for key, value in table.items():
        yield _Said(key.replace("-", "_"), value, f"{key} in [{TABLE}] of {path}")


def _nearest_file() -> Path | None:
    here = Path.cwd()
    return next((path for folder in (here, *here.parents) if (path := folder / "pyproject.toml").is_file()), None)


def _unknown(told: _Said, known: set[str]) -> SettingError:
    near = difflib.get_close_matches(told.name, known, n=1)
    if near:
        return SettingError(f"there is no setting {told.source}; did you mean {told.spelled(near[0])}?")
    return SettingError(f"there is no setting {told.source}; there are: {', '.join(map(told.spelled, sorted(known)))}")


def _value(action: argparse.Action, told: _Said) -> Any:
    """A value as the option's flag would give it."""
    if action.nargs == 0:
        return _of_type(bool, told)
    if not (isinstance(action, argparse._AppendAction) or action.nargs in ("+", "*")):
        return _converted(action, told)
    several = [part.strip() for part in told.value.split(",")] if told.is_variable else told.value
    if not isinstance(several, list):
        raise told.wrong('a list, such as ["a", "b"]')
    return _Replaced(_converted(action, _Said(told.name, value, told.source)) for value in several)


def _converted(action: argparse.Action, told: _Said) -> Any:
    kind = action.type or str
    value = _of_type(kind, told) if isinstance(kind, type) else _by(kind, told)
    if action.choices is not None and value not in action.choices:
        raise told.wrong(f"one of {', '.join(map(str, action.choices))}")
    return value


def _by(kind: Any, told: _Said) -> Any:
    try:
        return kind(str(told.value))
    except (ValueError, TypeError, argparse.ArgumentTypeError) as error:
        raise SettingError(f"{told.source}: {error}") from None


def _of_type(kind: type, told: _Said) -> Any:
    """A text of the environment, or a value of the file, as what the option takes."""
    value = told.value
    if kind is bool:
        if isinstance(value, str) and told.is_variable and value.lower() in (*_TRUE, *_FALSE):
            return value.lower() in _TRUE
        if isinstance(value, bool):
            return value
        raise told.wrong("true or false")
    if not told.is_variable:
        fitting = (int, float) if kind is float else str if issubclass(kind, os.PathLike) else kind
        if isinstance(value, bool) or not isinstance(value, fitting):
            raise told.wrong(_words(kind))
    try:
        return kind(value)
    except ValueError:
        raise told.wrong(_words(kind)) from None


def _words(kind: type) -> str:
    return {int: "a whole number", float: "a number"}.get(kind, "a text")
