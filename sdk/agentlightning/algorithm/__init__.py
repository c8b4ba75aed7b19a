"""What an algorithm is, how to write one, and how to evaluate resources on tasks. Knows no particular algorithm."""

from agentlightning.algorithm.base import Algorithm, Estimate
from agentlightning.algorithm.batching import batch_iter_over_dataset
from agentlightning.algorithm.evaluation import Evaluation, evaluate, mean_reward
from agentlightning.algorithm.functional import FunctionalAlgorithm, algo

__all__ = [
    "Algorithm",
    "Estimate",
    "Evaluation",
    "FunctionalAlgorithm",
    "algo",
    "batch_iter_over_dataset",
    "evaluate",
    "mean_reward",
]
