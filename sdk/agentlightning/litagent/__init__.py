"""Agents, as classes and as functions. Knows neither who runs them nor how they are recorded."""

from agentlightning.litagent.function import FunctionalLitAgent, as_agent, llm_rollout, prompt_rollout, rollout
from agentlightning.litagent.litagent import LitAgent

__all__ = ["FunctionalLitAgent", "LitAgent", "as_agent", "llm_rollout", "prompt_rollout", "rollout"]
