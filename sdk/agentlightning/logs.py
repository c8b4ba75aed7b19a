"""Where the log lines of this package are shown, and as what; how agents print. Knows the standard library only."""

import contextlib
import io
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

FORMAT: Final = "%(asctime)s [%(levelname)s] %(message)s"

_logger = logging.getLogger("agentlightning")
_ours: list[logging.Handler] = []


def setup_logging(
    level: int | str = "INFO",
    *,
    console: bool = True,
    propagate: bool = False,
    submodule_levels: Mapping[str, int | str] | None = None,
    extra_handlers: Sequence[logging.Handler] = (),
    files: str | Path | None = None,
) -> None:
    """Show this package's log lines as `2025-10-14 22:23:41,339 [INFO] [Worker 0] Setting up tracer...`.

    It need not be called: a program that configures no logging at all is shown the lines of `fit` and of its runners
    anyway. `agl.setup_logging("WARNING")` silences them. Called again, it replaces what it set up before.

    Args:
        level: The least serious lines that are shown.
        console: Whether to show them on stderr.
        propagate: Whether handlers of the root logger get them too.
        submodule_levels: Other levels for parts, as `{"agentlightning.tracer": "DEBUG"}`.
        extra_handlers: Handlers that get them too, with formatters of their own.
        files: A file to append them to.

    Raises:
        ValueError: When a level is none.

    Example:
        >>> import agentlightning as agl
        >>> agl.setup_logging("WARNING", submodule_levels={"agentlightning.tracer": "DEBUG"})
    """
    handlers: list[logging.Handler] = [_Console()] if console else []
    if files is not None:
        handlers.append(logging.FileHandler(files, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter(FORMAT))
    _replace_ours([*handlers, *extra_handlers])
    _logger.setLevel(level)
    _logger.propagate = propagate
    for name, its_level in (submodule_levels or {}).items():
        logging.getLogger(name).setLevel(its_level)


def print_whole_lines() -> None:
    """Write what is printed line by line: at once, and so that lines of several processes do not mix."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, write_through=False)


@contextlib.contextmanager
def shown(least: int = logging.INFO) -> Iterator[None]:
    """Show this package's log lines while the block runs, if the program has not said where they are to go.

    Args:
        least: The least serious that are shown, if the program has not said that either.
    """
    if _logger.hasHandlers():
        yield
        return
    console = _Console()
    console.setFormatter(logging.Formatter(FORMAT))
    level = _logger.level
    _logger.addHandler(console)
    if level == logging.NOTSET:
        _logger.setLevel(least)
    try:
        yield
    finally:
        _logger.removeHandler(console)
        _logger.setLevel(level)


def _replace_ours(handlers: Sequence[logging.Handler]) -> None:
    for earlier in _ours:
        _logger.removeHandler(earlier)
        if earlier not in handlers:
            earlier.close()
    _ours[:] = handlers
    for handler in handlers:
        _logger.addHandler(handler)


class _Console(logging.Handler):
    """Writes to whatever stderr is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)
