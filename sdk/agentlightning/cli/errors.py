"""What a command line says that cannot be followed. What cannot be done, the errors of the package say."""

from agentlightning.errors import AgentLightningError


class NotUnderstoodError(AgentLightningError):
    """The command line, or what is set for it, cannot be followed: exit status 2."""
