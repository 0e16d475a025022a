"""Recipes of the field's systems, by family. Importing this package registers them."""

from wamkit.zoo.systems import (
    anchors,
    worlds_dreamers,
    worlds_foundation,
    worlds_jepa,
    worlds_tokens,
    worlds_video,
)

__all__ = ["anchors", "worlds_dreamers", "worlds_foundation", "worlds_jepa", "worlds_tokens", "worlds_video"]
