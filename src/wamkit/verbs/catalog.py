"""Every part that can be named in a config, with one line about it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wamkit.contract.protocols import (
    ActionConfig,
    EncoderConfig,
    EstimatorConfig,
    PlannerConfig,
    SubstrateConfig,
    TrunkConfig,
)
from wamkit.controllers import Controller
from wamkit.envs import EnvConfig
from wamkit.substrates import CodecConfig, TeacherConfig
from wamkit.zoo import RECIPES

KINDS: Mapping[str, Any] = {
    "encoder": EncoderConfig,
    "substrate": SubstrateConfig,
    "codec": CodecConfig,
    "teacher": TeacherConfig,
    "action": ActionConfig,
    "trunk": TrunkConfig,
    "estimator": EstimatorConfig,
    "planner": PlannerConfig,
    "controller": Controller,
    "environment": EnvConfig,
}


@dataclass(frozen=True)
class Entry:
    """A part or a recipe: its kind, the name a config uses, one line, and the module that defines it."""

    kind: str
    name: str
    summary: str
    module: str


def first_line(item: Any) -> str:
    """First line of the docstring."""
    return (inspect.getdoc(item) or "").splitlines()[0]


def list_parts() -> list[Entry]:
    """All registered parts, then all recipes, sorted within their kind."""
    found = []
    for kind, registry in KINDS.items():
        for name, part in sorted(registry.get_known_choices().items()):
            found.append(Entry(kind, name, first_line(part), part.__module__))
    for name, function in RECIPES.items():
        found.append(Entry("recipe", name, first_line(function), function.__module__))
    return found
