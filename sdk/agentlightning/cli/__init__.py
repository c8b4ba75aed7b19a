"""The `agl` command."""

from agentlightning.cli.main import main

__all__ = ["main"]
