"""What a config says beyond its defaults."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from wamkit.config import Config, said
from wamkit.encoders import ImagesConfig
from wamkit.zoo import recipe


@dataclass(frozen=True)
class Inner(Config):
    """A part of a config."""

    size: int = 1


@dataclass(frozen=True)
class Wider(Config):
    """The same part in a later version."""

    size: int = 1
    colour: str = "red"


@dataclass(frozen=True)
class Outer(Config):
    """A config with a part, without a default for its name."""

    name: str
    inner: Inner = field(default_factory=Inner)
    many: tuple[Inner, ...] = ()
    named: dict[str, Inner] = field(default_factory=dict)


def test_defaults_are_left_out_at_every_depth() -> None:
    assert said(Outer("a")) == {"name": "a"}
    assert said(Outer("a", Inner(2), (Inner(), Inner(3)), {"x": Inner()})) == {
        "name": "a",
        "inner": {"size": 2},
        "many": [{}, {"size": 3}],
        "named": {"x": {}},
    }


def test_a_new_field_with_a_default_changes_nothing() -> None:
    assert said(Wider(size=2)) == said(Inner(2))
    assert said(Wider(size=2, colour="blue")) == {"size": 2, "colour": "blue"}


def test_a_choice_says_its_type_even_without_other_values() -> None:
    assert said(ImagesConfig()) == {"type": "images"}
    assert said(ImagesConfig(patch=8)) == {"type": "images", "patch": 8}


def test_two_recipes_say_different_things() -> None:
    direct = recipe("direct")
    assert said(direct) != said(recipe("joint"))
    assert said(replace(direct, horizon=32))["horizon"] == 32
