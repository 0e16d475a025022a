"""Every field of every config has a range beside it, and what lies outside is refused where the config is made."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import nonsense
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import ToyWindows
from wamkit.cli import VERBS
from wamkit.config import Config, decode, encode
from wamkit.config.ranges import Range
from wamkit.config.values import FieldError, hints_of
from wamkit.contract.data import DataSpec
from wamkit.design import DesignConfig
from wamkit.encoders import ImagesConfig
from wamkit.errors import ConfigError
from wamkit.training import OptimConfig, TrainConfig
from wamkit.verbs import catalog
from wamkit.verbs.declarations import declaration
from wamkit.zoo import RECIPES, recipe


def registered() -> Iterator[type[Any]]:
    """Parts of every registry and configs of every verb."""
    for name in catalog.ROOMS:
        importlib.import_module(f"wamkit.{name}")
    for module in catalog.REGISTRIES:
        for base in catalog.CHOICES:
            registry = getattr(sys.modules[module], base, None)
            if registry is not None and registry.__module__ == module:
                yield from registry.get_known_choices().values()
    for verb in VERBS.values():
        if verb.config is not None:
            module, _, name = verb.config.rpartition(".")
            yield getattr(importlib.import_module(module), name)


def types_in(hint: Any) -> Iterator[Any]:
    """A type and every type inside it."""
    yield hint
    for inner in get_args(hint):
        yield from types_in(inner)


def configs() -> list[type[Any]]:
    """Every config class, of those inside others too."""
    found: dict[type[Any], None] = {}
    waiting = [cls for cls in registered() if cls.__module__.startswith("wamkit.")]
    while waiting:
        cls = waiting.pop()
        if cls not in found:
            found[cls] = None
            inside = [t for hint in hints_of(cls).values() for t in types_in(hint)]
            waiting += [t for t in inside if isinstance(t, type) and dataclasses.is_dataclass(t)]
    return sorted((cls for cls in found if not isinstance(cls, Range)), key=lambda cls: cls.__qualname__)


CONFIGS = configs()
CONCRETE = [cls for cls in CONFIGS if not inspect.isabstract(cls)]


def bare(hint: Any) -> Iterator[Any]:
    """Numbers in a type that no range stands beside."""
    if hint in (int, float):
        yield hint
    if get_origin(hint) is Annotated:
        kind, *ranges = get_args(hint)
        if kind in (int, float):
            if not any(isinstance(bounds, Range) for bounds in ranges):
                yield kind
        else:
            yield from bare(kind)
    elif get_origin(hint) is not Literal:
        for inner in get_args(hint):
            yield from bare(inner)


def test_there_are_many_configs() -> None:
    assert len(CONFIGS) > 130


@pytest.mark.parametrize("cls", CONFIGS, ids=lambda cls: cls.__name__)
def test_every_number_has_a_range_and_every_config_is_checked(cls: type[Any]) -> None:
    assert issubclass(cls, Config)
    assert {name: list(bare(hint)) for name, hint in hints_of(cls).items() if list(bare(hint))} == {}


# What no field of a type may hold, whatever its range is.
WRONG: dict[Any, tuple[Any, ...]] = {
    int: (1.5, True, "5", None, [1], math.nan, 10**12),
    float: (math.nan, True, "x", None, [0.5], {}),
    str: (5, None, ["a"], True, "\0", "\udcff"),
    bool: (1, "yes", None, []),
    Path: ("text", None, 3),
    dict: (None, 3, "x", [1]),
    tuple: (None, 3, "x", {}),
}


def kind_of(hint: Any) -> Any:
    """Python type of a field, without its ranges and its null."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, UnionType):
        return kind_of(next(t for t in get_args(hint) if t is not type(None)))
    return get_origin(hint) or hint


def nullable(hint: Any) -> bool:
    return get_origin(hint) in (Union, UnionType) and type(None) in get_args(hint)


def made(cls: type[Any], **fields: Any) -> Any:
    """The config with these fields; required ones get values."""
    needed = {
        "out": Path("runs/x"),
        "tasks": ("drawer-open-v3",),
        "substrate": "video",
        "generates": ("action",),
    }
    needed |= {"model": Path("arm.xml"), "frame": "hand", "joints": ("q0",), "entries": ("dx",)}
    needed |= {"less": "move left", "more": "move right"}
    needed |= {"position": (0.0, 0.0, 1.0), "target": (1.0, 0.0, 0.0)}
    names = {f.name for f in dataclasses.fields(cls)}
    return cls(**{**{k: v for k, v in needed.items() if k in names and _required(cls, k)}, **fields})


def _required(cls: type[Any], name: str) -> bool:
    field = next(f for f in dataclasses.fields(cls) if f.name == name)
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


@pytest.mark.parametrize("cls", CONCRETE, ids=lambda cls: cls.__name__)
def test_a_value_of_another_type_is_refused_with_class_and_field(cls: type[Any]) -> None:
    for name, hint in hints_of(cls).items():
        for value in WRONG.get(kind_of(hint), (3, None, "x")):
            if (value is None and nullable(hint)) or get_origin(hint) is Literal:
                continue
            with pytest.raises(FieldError, match=rf"^{cls.__name__}\.{name}") as caught:
                made(cls, **{name: value})
            assert len(str(caught.value)) < 300


@pytest.mark.parametrize("cls", CONCRETE, ids=lambda cls: cls.__name__)
def test_a_number_outside_its_range_is_refused_and_one_at_its_bound_is_not(cls: type[Any]) -> None:
    for name, hint in hints_of(cls).items():
        for bounds in [b for t in [hint, *get_args(hint)] for b in get_args(t) if isinstance(b, Range)]:
            if kind_of(hint) not in (int, float):
                continue
            step = 1 if kind_of(hint) is int else 1e-3
            outside = [] if bounds.low is None else [bounds.low if bounds.above else bounds.low - step]
            outside += [] if bounds.high is None else [bounds.high if bounds.below else bounds.high + step]
            for value in outside:
                with pytest.raises(FieldError, match=rf"^{cls.__name__}\.{name}: must be .*, got "):
                    made(cls, **{name: value})
            inside = [bounds.low] if bounds.low is not None and not bounds.above else []
            inside += [bounds.high] if bounds.high is not None and not bounds.below else []
            for value in inside:
                try:
                    made(cls, **{name: value})
                except FieldError as error:  # a rule between fields may refuse it; a range may not
                    pytest.fail(str(error))
                except ConfigError:
                    pass


@pytest.mark.parametrize("cls", CONFIGS, ids=lambda cls: cls.__name__)
def test_help_shows_the_range_of_every_number(cls: type[Any]) -> None:
    shown = {f.name: f.type for f in declaration(f"{cls.__module__}.{cls.__name__}").fields}
    for name, hint in hints_of(cls).items():
        for found in types_in(hint):
            if get_origin(found) is Annotated and get_args(found)[0] in (int, float):
                kind, bounds = get_args(found)
                assert bounds.text(kind.__name__) in shown[name]


MESSAGES = {
    "optim.lr": (math.nan, "must be finite, got nan."),
    "optim.clip": (0.0, "must be more than 0, got 0.0."),
    "optim.ema": (1.0, "must be at least 0 and less than 1, got 1.0."),
    "optim.warmup": (-1, "must be at least 0, got -1."),
    "optim.betas": ([0.9], "must have 2 entries, got the list [0.9]."),
    "steps": (0, "must be at least 1, got 0."),
    "out": (None, "must be a path, got null."),
    "seed": (10**20, "must be at least 0 and at most 4294967295, got 100000000000000000000."),
    "fresh": ("encoders", "must be a list, got the text 'encoders'. Write [encoders]."),
    "design.loss_weights": ({"action": -1.0}, ".action: must be at least 0, got -1.0."),
    "design.observation": ([], "must not be empty, got the list []."),
    "design.horizon": (True, "must be an integer, got true."),
    "design.aim": ("start", "must be one of end, next, got the text 'start'."),
}


@pytest.mark.parametrize("key", MESSAGES)
def test_messages_name_the_place_and_the_dotted_field(key: str) -> None:
    value, message = MESSAGES[key]
    values = encode(TrainConfig(design=recipe("joint")))
    with pytest.raises(ConfigError) as caught:
        decode(TrainConfig, nonsense.put(values, tuple(key.split(".")), value), "here")
    joint = "" if message.startswith(".") else ": "
    assert str(caught.value) == f"here: {key}{joint}{message}"


def test_a_rule_between_fields_is_told_with_its_place() -> None:
    values = nonsense.put(encode(TrainConfig()), ("design", "observation"), [-4, -1])
    with pytest.raises(
        ConfigError, match=r'^here: design: observation: must end with 0, which is "now", got'
    ):
        decode(TrainConfig, values, "here")


def test_the_fields_are_checked_before_the_rules_of_the_class() -> None:
    with pytest.raises(FieldError, match=r"^DesignConfig.observation: must be a list, got 3\.$"):
        DesignConfig(observation=3)  # type: ignore[arg-type]


def test_numbers_of_configs_are_of_their_type_after_decoding() -> None:
    assert isinstance(decode(OptimConfig, {"lr": 1}, "here").lr, float)
    assert decode(ImagesConfig, {"channels": [8, 8]}, "here").channels == (8, 8)


def test_every_recipe_stays_valid() -> None:
    for name in RECIPES:
        assert decode(DesignConfig, encode(recipe(name)), name) == recipe(name)


SMALL = {name: nonsense.small(name) for name in nonsense.RECIPES}


@settings(max_examples=120, deadline=None, derandomize=True, database=None)
@given(name=st.sampled_from(nonsense.RECIPES), draw=st.data())
def test_nonsense_in_any_field_works_or_is_refused_in_words(
    name: str, draw: st.DataObject, data: DataSpec, toy: ToyWindows
) -> None:
    values = SMALL[name]
    place = draw.draw(st.sampled_from(list(nonsense.places(values))))
    found = nonsense.outcome(
        nonsense.put(values, place, draw.draw(st.sampled_from(nonsense.POOL))), data, toy
    )
    assert len(found) < 300
    assert "<class" not in found
    assert "nderlying error" not in found
