"""Training: where a run starts, its loop, optimiser and objectives."""

from wamkit.training.balance import Ramp
from wamkit.training.distill import DistillConfig
from wamkit.training.loop import TrainConfig, train
from wamkit.training.optim import OptimConfig

__all__ = [
    "DistillConfig",
    "OptimConfig",
    "Ramp",
    "TrainConfig",
    "train",
]
