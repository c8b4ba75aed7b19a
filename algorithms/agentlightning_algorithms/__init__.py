"""Algorithms that come with the SDK. Each is a client of the SDK's public names and of nothing else."""

from agentlightning_algorithms.apo import APO
from agentlightning_algorithms.baseline import Baseline
from agentlightning_algorithms.gepa import GEPA

__all__ = ["APO", "GEPA", "Baseline"]
