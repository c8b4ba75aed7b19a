"""Recording what agents do, on OpenTelemetry. Knows neither agents nor runners."""

from agentlightning.tracer.attempt import AttemptTrace
from agentlightning.tracer.tracer import AgentOpsTracer, OtelTracer, Tracer

__all__ = ["AgentOpsTracer", "AttemptTrace", "OtelTracer", "Tracer"]
