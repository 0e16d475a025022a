"""Training: start of a run, loop, optimiser and objectives."""

from wamkit.training.balance import Ramp
from wamkit.training.config import TrainConfig
from wamkit.training.distill import DistillConfig
from wamkit.training.imagined import ImaginedConfig
from wamkit.training.loop import train
from wamkit.training.optim import OptimConfig
from wamkit.training.reality import Reality

__all__ = [
    "DistillConfig",
    "ImaginedConfig",
    "OptimConfig",
    "Ramp",
    "Reality",
    "TrainConfig",
    "train",
]
