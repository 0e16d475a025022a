"""Augmentations: changes of training windows, of which a run composes a list."""

from wamkit.augmentations.colour import Blur, Colour, Erase, Noise
from wamkit.augmentations.compose import PRESETS, Preset, augment
from wamkit.augmentations.geometry import Affine, Crop, Shift
from wamkit.augmentations.inputs import DropCamera, DropInstruction, Paraphrase, StateNoise

__all__ = [
    "PRESETS",
    "Affine",
    "Blur",
    "Colour",
    "Crop",
    "DropCamera",
    "DropInstruction",
    "Erase",
    "Noise",
    "Paraphrase",
    "Preset",
    "Shift",
    "StateNoise",
    "augment",
]
