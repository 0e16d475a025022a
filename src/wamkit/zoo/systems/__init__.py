"""Recipes of the field's systems, by family. Importing this package registers them."""

from wamkit.zoo.systems import anchors, render_plans, render_streams

__all__ = ["anchors", "render_plans", "render_streams"]
