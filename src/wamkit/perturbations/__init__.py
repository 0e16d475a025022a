"""Perturbations: one factor of a scene changed, by a known strength, by seed."""

from wamkit.perturbations import camera, language, layout, light, sensor, texture  # noqa: F401 (they register)
from wamkit.perturbations.base import DIMENSIONS, Dimension, Perturbation, Scene, Shape, Shutter, Stage, Start

__all__ = ["DIMENSIONS", "Dimension", "Perturbation", "Scene", "Shape", "Shutter", "Stage", "Start"]
