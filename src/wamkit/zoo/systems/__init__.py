"""Recipes of the field's systems, by family. Importing this package registers them."""

from wamkit.zoo.systems import (
    anchors,
    geometry_features,
    geometry_motion,
    latent_heads,
    latent_joint,
    latent_planned,
    latent_taps,
    policies_experts,
    policies_futures,
    policies_slow_fast,
    policies_small,
    policies_tokens,
    render_experts,
    render_motion,
    render_plans,
    render_streams,
)

__all__ = [
    "anchors",
    "geometry_features",
    "geometry_motion",
    "latent_heads",
    "latent_joint",
    "latent_planned",
    "latent_taps",
    "policies_experts",
    "policies_futures",
    "policies_slow_fast",
    "policies_small",
    "policies_tokens",
    "render_experts",
    "render_motion",
    "render_plans",
    "render_streams",
]
