"""Encoders: observation -> context tokens."""

from wamkit.encoders.images import ImageEncoder, ImagesConfig
from wamkit.encoders.instruction import InstructionConfig, InstructionEncoder
from wamkit.encoders.state import StateConfig, StateEncoder

__all__ = [
    "ImageEncoder",
    "ImagesConfig",
    "InstructionConfig",
    "InstructionEncoder",
    "StateConfig",
    "StateEncoder",
]
