"""Declarations read from the source say what the imported classes say."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import pytest
import yaml

from wamkit.config import encode
from wamkit.verbs import catalog
from wamkit.verbs.declarations import (
    CHOICES,
    REQUIRED,
    Declaration,
    Made,
    Unevaluated,
    choices,
    declaration,
    plain,
)

VERB_CONFIGS = (
    "wamkit.training.config.TrainConfig",
    "wamkit.verbs.collect.CollectConfig",
    "wamkit.verbs.evaluate.EvaluateConfig",
    "wamkit.verbs.sweep.SweepConfig",
    "wamkit.verbs.ceiling.CeilingConfig",
    "wamkit.verbs.predict.PredictConfig",
    "wamkit.verbs.imagine.ImagineConfig",
)
DECLARED = [found for _, _, found in choices(catalog.ROOMS)]


def live(found: Declaration) -> Any:
    return getattr(importlib.import_module(found.module.name), found.name)


def filled(value: Any) -> Any:
    """A declared default with the defaults of the configs inside it, as the encoder writes it."""
    if isinstance(value, Made):
        kind = {} if value.config.choice is None else {"type": value.config.choice[1]}
        fields = {f.name: filled(value.values.get(f.name, f.default)) for f in value.config.fields}
        return {**kind, **fields}
    if isinstance(value, dict):
        return {name: filled(part) for name, part in value.items()}
    return [filled(part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("found", DECLARED, ids=lambda d: f"{d.choice[0]}-{d.choice[1]}")
def test_fields_and_defaults_of_every_part(found: Declaration) -> None:
    assert faults(found) == []
    base, name = found.choice or ("", "")
    registry = next(cls for cls in live(found).__mro__ if cls.__name__ == base)
    assert registry.get_choice_class(name) is live(found)


@pytest.mark.parametrize("place", VERB_CONFIGS)
def test_fields_and_defaults_of_every_verb(place: str) -> None:
    assert faults(declaration(place)) == []


def faults(found: Declaration) -> list[str]:
    """Fields of a declaration that are not those of the live class, or have no text."""
    fields = dataclasses.fields(live(found))
    if [f.name for f in found.fields] != [f.name for f in fields]:
        return [f"the fields are {[f.name for f in fields]}"]
    return [
        f"{found.name}.{declared.name}"
        for declared, real in zip(found.fields, fields, strict=True)
        if not declared.text or not same_default(declared.default, real)
    ]


def same_default(declared: Any, real: dataclasses.Field[Any]) -> bool:
    if real.default is dataclasses.MISSING and real.default_factory is dataclasses.MISSING:
        return declared is REQUIRED
    default = real.default if real.default_factory is dataclasses.MISSING else real.default_factory()
    unread = declared is REQUIRED or isinstance(declared, Unevaluated)
    return not unread and filled(declared) == encoded(default)


def encoded(value: Any) -> Any:
    """What a config file would hold."""
    if dataclasses.is_dataclass(value):
        plain_values = encode(value)
        kind = getattr(type(value), "get_choice_name", None)
        return plain_values if kind is None else {"type": kind(type(value)), **plain_values}
    if isinstance(value, dict):
        return {name: encoded(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [encoded(part) for part in value]
    return value if isinstance(value, int | float | str | bool | None) else str(value)


def test_defaults_are_shown_in_yaml() -> None:
    for found in DECLARED:
        for option in found.fields:
            if option.default is not REQUIRED and not isinstance(option.default, Made):
                assert yaml.safe_load(option.shown_default) == plain(option.default)


def test_every_registry_has_a_word() -> None:
    assert {found.choice[0] for found in DECLARED if found.choice is not None} == set(CHOICES)
