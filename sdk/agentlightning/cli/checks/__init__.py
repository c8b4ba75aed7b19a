"""What `agl doctor` looks at, a module each. They find and say; none mends, prints or decides the exit status."""

from agentlightning.cli.checks.finding import Finding

__all__ = ["Finding"]
