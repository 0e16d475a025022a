"""Recipes: one short function per published system or reference design."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from wamkit.design.config import DesignConfig
from wamkit.errors import ConfigError, did_you_mean
from wamkit.zoo import families, places, tenants

Recipe = Callable[[], DesignConfig]

# Group -> name -> recipe. Within a group as little as possible differs, so that a comparison says something.
GROUPS: Mapping[str, Mapping[str, Recipe]] = {
    "tenants": {
        "direct": tenants.direct,
        "joint": tenants.joint,
        "post_head": tenants.post_head,
        "autoregressive": tenants.autoregressive,
        "rollout": tenants.rollout,
        "recurrent": tenants.recurrent,
        "chunk_causal": tenants.chunk_causal,
    },
    "places": {
        "pixels": places.pixels,
        "keyframes": places.keyframes,
        "rgbd": places.rgbd,
        "teacher": places.teacher,
        "force": places.force,
        "contact": places.contact,
        "object_flow": places.object_flow,
        "optical_flow": places.optical_flow,
        "tracks": places.tracks,
        "polyline": places.polyline,
        "pose_stream": places.pose_stream,
        "depth": places.depth,
        "segmentation": places.segmentation,
        "heatmap": places.heatmap,
        "progress": places.progress,
        "motion_vectors": places.motion_vectors,
        "normals": places.normals,
    },
    "families": {
        "noise_prediction": families.noise_prediction,
        "equilibrium": families.equilibrium,
        "masked": families.masked,
        "fast_tokens": families.fast_tokens,
        "regression": families.regression,
        "jepa": families.jepa,
        "shared_trunk": families.shared_trunk,
        "mixture": families.mixture,
        "inverse_dynamics": families.inverse_dynamics,
        "latent_action": families.latent_action,
        "continuous_tokens": families.continuous_tokens,
        "next_scale": families.next_scale,
        "feature_tap": families.feature_tap,
        "encoder_only": families.encoder_only,
        "vlm_expert": families.vlm_expert,
        "vlm_token": families.vlm_token,
        "movement_primitive": families.movement_primitive,
    },
}
RECIPES: Mapping[str, Recipe] = {name: make for group in GROUPS.values() for name, make in group.items()}


def recipe(name: str) -> DesignConfig:
    """The config of a named recipe; raises :class:`ConfigError` with the nearest name."""
    if name not in RECIPES:
        raise ConfigError(f"no recipe {name!r}. {did_you_mean(name, RECIPES)}")
    return RECIPES[name]()


__all__ = ["GROUPS", "RECIPES", "recipe"]
