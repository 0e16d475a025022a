"""Trunks: tokens -> tokens."""

from wamkit.nn.architectures import llama_architecture
from wamkit.trunks.mixture import Mixture, MixtureConfig
from wamkit.trunks.space_time import SpaceTime, SpaceTimeConfig
from wamkit.trunks.transformer import Transformer, TransformerConfig
from wamkit.trunks.vlm_expert import VlmExpert, VlmExpertConfig

__all__ = [
    "Mixture",
    "MixtureConfig",
    "SpaceTime",
    "SpaceTimeConfig",
    "Transformer",
    "TransformerConfig",
    "VlmExpert",
    "VlmExpertConfig",
    "llama_architecture",
]
