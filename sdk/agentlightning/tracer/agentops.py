"""The import path of `AgentOpsTracer` that existing code uses. It needs no agentops."""

from agentlightning.tracer.tracer import AgentOpsTracer

__all__ = ["AgentOpsTracer"]
