"""Recipes of the field's systems, by family. Importing this package registers them."""

from wamkit.zoo.systems import anchors

__all__ = ["anchors"]
