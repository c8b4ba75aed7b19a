"""Runs an agent on datasets as it is, to see what it does before anything is tuned."""

from agentlightning_algorithms.baseline.baseline import Baseline

__all__ = ["Baseline"]
