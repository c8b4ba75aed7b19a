"""Automatic prompt optimization: a language model criticises a prompt by its rollouts, another one edits it."""

from agentlightning_algorithms.apo.apo import APO

__all__ = ["APO"]
