"""What an algorithm is, how to write one, and how to evaluate resources on tasks. Knows no particular algorithm."""

from agentlightning.algorithm.asking import Answer
from agentlightning.algorithm.base import Algorithm, Estimate
from agentlightning.algorithm.batching import batch_iter_over_dataset
from agentlightning.algorithm.budget import Budget
from agentlightning.algorithm.evaluation import Evaluation, evaluate, mean_reward
from agentlightning.algorithm.functional import FunctionalAlgorithm, algo
from agentlightning.algorithm.journal import Journal
from agentlightning.algorithm.ledger import Ledger, TooManyFailures
from agentlightning.algorithm.room import BudgetSpent, ModelError, Room

__all__ = [
    "Algorithm",
    "Answer",
    "Budget",
    "BudgetSpent",
    "Estimate",
    "Evaluation",
    "FunctionalAlgorithm",
    "Journal",
    "Ledger",
    "ModelError",
    "Room",
    "TooManyFailures",
    "algo",
    "batch_iter_over_dataset",
    "evaluate",
    "mean_reward",
]
