"""Training in one call: a store, runners and an algorithm, started together and taken down together."""

from agentlightning.trainer.trainer import Trainer, TrainResult

__all__ = ["TrainResult", "Trainer"]
