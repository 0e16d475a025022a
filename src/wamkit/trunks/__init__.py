"""Trunks: tokens -> tokens."""

from wamkit.trunks.transformer import Transformer, TransformerConfig

__all__ = ["Transformer", "TransformerConfig"]
