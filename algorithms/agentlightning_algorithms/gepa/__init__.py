"""GEPA, the reflective prompt evolution of the package `gepa`, with our runners, traces and budget."""

from agentlightning_algorithms.gepa.gepa import GEPA

__all__ = ["GEPA"]
