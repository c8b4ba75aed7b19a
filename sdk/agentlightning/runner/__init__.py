"""Running agents for the rollouts of a store. Knows agents, tracer and store, and no algorithm."""

from agentlightning.runner.hold import cancelled
from agentlightning.runner.hooks import Hook
from agentlightning.runner.runner import LitAgentRunner

__all__ = ["Hook", "LitAgentRunner", "cancelled"]
