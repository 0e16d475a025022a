"""Simulators behind one Gymnasium contract, and workers that run many of them.

Importing this package imports no simulator; :meth:`EnvConfig.build` does.
"""

from wamkit.envs.aloha import AlohaConfig
from wamkit.envs.base import (
    EVALUATION_SEEDS_FROM,
    EnvConfig,
    Outcome,
    SimulatedEnv,
    episode_seed,
    instructions,
    list_tasks,
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
    "Outcome",
    "SimulatedEnv",
    "Step",
    "VectorEnv",
    "episode_seed",
    "instructions",
    "list_tasks",
]
