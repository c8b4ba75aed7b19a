"""Training in one call: a store, runners and an algorithm, started together and taken down together."""

from agentlightning.trainer.outcome.result import TrainResult
from agentlightning.trainer.trainer import Trainer

__all__ = ["TrainResult", "Trainer"]
