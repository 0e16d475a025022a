"""Trunks: tokens -> tokens."""

from wamkit.trunks.mixture import Mixture, MixtureConfig
from wamkit.trunks.transformer import Transformer, TransformerConfig
from wamkit.trunks.vlm_expert import VlmExpert, VlmExpertConfig

__all__ = ["Mixture", "MixtureConfig", "Transformer", "TransformerConfig", "VlmExpert", "VlmExpertConfig"]
