"""Perturbations: seeded changes of one factor of a scene, with a known strength."""

from wamkit.envs.perturbations import camera, language, layout, light, sensor, texture  # noqa: F401 (they register)
from wamkit.envs.perturbations.base import (
    DIMENSIONS,
    Dimension,
    Perturbation,
    Scene,
    Shape,
    Shutter,
    StageRenderer,
    Start,
    Surface,
)
from wamkit.envs.perturbations.episode import PerturbedEpisode

__all__ = [
    "DIMENSIONS",
    "Dimension",
    "Perturbation",
    "PerturbedEpisode",
    "Scene",
    "Shape",
    "Shutter",
    "StageRenderer",
    "Start",
    "Surface",
]
