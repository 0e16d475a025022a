"""Recipes of the field's systems, by family. Importing this package registers them."""

from wamkit.zoo.systems import anchors, latent_heads, latent_joint, latent_planned, latent_taps

__all__ = ["anchors", "latent_heads", "latent_joint", "latent_planned", "latent_taps"]
