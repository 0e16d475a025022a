"""Training: loop, optimiser, checkpoints."""

from wamkit.training.balance import Ramp
from wamkit.training.checkpoint import from_pretrained, save_pretrained
from wamkit.training.distill import DistillConfig
from wamkit.training.loop import TrainConfig, train
from wamkit.training.optim import OptimConfig

__all__ = [
    "DistillConfig",
    "OptimConfig",
    "Ramp",
    "TrainConfig",
    "from_pretrained",
    "save_pretrained",
    "train",
]
