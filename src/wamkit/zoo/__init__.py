"""Recipes: one short function per published system or reference design."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from wamkit.compose import DesignConfig
from wamkit.errors import ConfigError, did_you_mean
from wamkit.zoo import tenants

RECIPES: Mapping[str, Callable[[], DesignConfig]] = {
    "direct": tenants.direct,
    "joint": tenants.joint,
    "post_head": tenants.post_head,
    "autoregressive": tenants.autoregressive,
    "rollout": tenants.rollout,
    "recurrent": tenants.recurrent,
    "chunk_causal": tenants.chunk_causal,
}


def recipe(name: str) -> DesignConfig:
    """The config of a named recipe; raises :class:`ConfigError` with the nearest name."""
    if name not in RECIPES:
        raise ConfigError(f"no recipe {name!r}. {did_you_mean(name, RECIPES)}")
    return RECIPES[name]()


__all__ = ["RECIPES", "recipe"]
