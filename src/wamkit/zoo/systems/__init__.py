"""Recipes of the field's systems, by family. Importing this package registers them."""

from wamkit.zoo.systems import anchors, worlds_jepa

__all__ = ["anchors", "worlds_jepa"]
