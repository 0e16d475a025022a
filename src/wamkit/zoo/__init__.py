"""Recipes: one short function per published system or reference design."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from wamkit.design.config import DesignConfig
from wamkit.errors import ConfigError, did_you_mean
from wamkit.zoo import backbones, couplings, substrates
from wamkit.zoo.system import PREFIX

Recipe = Callable[[], DesignConfig]

# Group -> name -> recipe. Recipes of a group differ in as little as possible, so that they can be compared.
GROUPS: Mapping[str, Mapping[str, Recipe]] = {
    "couplings": {
        "direct": couplings.direct,
        "joint": couplings.joint,
        "post_head": couplings.post_head,
        "autoregressive": couplings.autoregressive,
        "rollout": couplings.rollout,
        "recurrent": couplings.recurrent,
        "chunk_causal": couplings.chunk_causal,
    },
    "substrates": {
        "pixels": substrates.pixels,
        "keyframes": substrates.keyframes,
        "rgbd": substrates.rgbd,
        "teacher": substrates.teacher,
        "force": substrates.force,
        "contact": substrates.contact,
        "object_flow": substrates.object_flow,
        "optical_flow": substrates.optical_flow,
        "tracks": substrates.tracks,
        "polyline": substrates.polyline,
        "pose_stream": substrates.pose_stream,
        "depth": substrates.depth,
        "segmentation": substrates.segmentation,
        "heatmap": substrates.heatmap,
        "progress": substrates.progress,
        "motion_vectors": substrates.motion_vectors,
        "normals": substrates.normals,
    },
    "backbones": {
        "noise_prediction": backbones.noise_prediction,
        "equilibrium": backbones.equilibrium,
        "masked": backbones.masked,
        "fast_tokens": backbones.fast_tokens,
        "regression": backbones.regression,
        "jepa": backbones.jepa,
        "shared_trunk": backbones.shared_trunk,
        "mixture": backbones.mixture,
        "inverse_dynamics": backbones.inverse_dynamics,
        "latent_action": backbones.latent_action,
        "continuous_tokens": backbones.continuous_tokens,
        "next_scale": backbones.next_scale,
        "feature_tap": backbones.feature_tap,
        "encoder_only": backbones.encoder_only,
        "vlm_expert": backbones.vlm_expert,
        "vlm_token": backbones.vlm_token,
        "movement_primitive": backbones.movement_primitive,
    },
}
RECIPES: Mapping[str, Recipe] = {name: make for group in GROUPS.values() for name, make in group.items()}


def recipe(name: str) -> DesignConfig:
    """Config of a named recipe, or of a system of the field as ``zoo:NAME``.

    Raises:
        ConfigError: there is none of this name; the message names the closest.
    """
    if name.startswith(PREFIX):
        from wamkit.zoo.registry import recipe_of  # many recipes, which only these names need

        return recipe_of(name)
    if name not in RECIPES:
        raise ConfigError(f"no recipe {name!r}. {did_you_mean(name, RECIPES)}")
    return RECIPES[name]()


__all__ = ["GROUPS", "RECIPES", "recipe"]
