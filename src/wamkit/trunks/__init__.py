"""Trunks: tokens -> tokens."""

from wamkit.trunks.mixture import Mixture, MixtureConfig
from wamkit.trunks.transformer import Transformer, TransformerConfig

__all__ = ["Mixture", "MixtureConfig", "Transformer", "TransformerConfig"]
