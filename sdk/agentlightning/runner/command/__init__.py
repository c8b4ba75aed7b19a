"""Agents that are commands, a process for each rollout. Knows agents and operating systems, and no queue."""

from agentlightning.runner.command.agent import CommandAgent

__all__ = ["CommandAgent"]
