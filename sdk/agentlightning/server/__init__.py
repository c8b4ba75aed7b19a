"""The early API's side of the algorithm: a server that takes tasks and gives results. The store is underneath."""

from agentlightning.server.result import LitRollout
from agentlightning.server.server import AgentLightningServer

__all__ = ["AgentLightningServer", "LitRollout"]
