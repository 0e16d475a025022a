"""Simulators behind one Gymnasium contract, and worker processes that run many of them.

Importing this package does not import a simulator; :meth:`EnvConfig.build` does.
"""

from wamkit.envs.aloha import AlohaConfig
from wamkit.envs.base import (
    EVALUATION_SEEDS_FROM,
    EnvConfig,
    Outcome,
    OutOfReachError,
    SimulatedEnv,
    episode_seed,
)
from wamkit.envs.cameras import CameraPose
from wamkit.envs.metaworld import MetaWorldConfig
from wamkit.envs.vector import Step, VectorEnv

__all__ = [
    "EVALUATION_SEEDS_FROM",
    "AlohaConfig",
    "CameraPose",
    "EnvConfig",
    "MetaWorldConfig",
    "OutOfReachError",
    "Outcome",
    "SimulatedEnv",
    "Step",
    "VectorEnv",
    "episode_seed",
]
