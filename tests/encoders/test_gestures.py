"""Clicks: where they lie in the picture, what drops them, and what cannot be clicked."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from scenes import SIDE, look, pose, scene_spec
from wamkit.contract.types import Observation, WindowSpec
from wamkit.encoders import GestureEncoder, GesturesConfig
from wamkit.errors import ConfigError, SpecError

WIDTH = 16
LENGTH = SIDE / 2 / math.tan(math.radians(30))  # pixels; the camera is 1 m above, with a view of 60 degrees
HERE, THERE = pose(0.1, 0.05, 0.0), pose(-0.2, 0.0, 0.0)


def build(**changes: object) -> GestureEncoder:
    torch.manual_seed(0)
    return GesturesConfig(**changes).build(scene_spec(), WindowSpec(), WIDTH).eval()  # type: ignore[arg-type]


def seen(goal: bool = True) -> Observation:
    return replace(look([HERE]), goal=look([THERE]) if goal else None)


def test_this_is_the_object_now_and_that_its_place_at_the_goal() -> None:
    places, known = build().points.places(seen())
    middle = SIDE / 2
    this = [middle + 0.1 * LENGTH, middle - 0.05 * LENGTH]
    assert known.all()
    torch.testing.assert_close(places[0], torch.tensor([this, [middle - 0.2 * LENGTH, middle]]))


@torch.no_grad()
def test_a_dropped_click_is_padding_and_leaves_no_trace() -> None:
    encoder = build()
    tokens, pad = encoder(seen())
    assert tokens.shape == (1, 2, WIDTH)
    assert pad.tolist() == [[False, False]]
    _, without = encoder(seen(goal=False))
    assert without.tolist() == [[False, True]]
    flagged = replace(seen(), missing={"gestures": torch.ones(1, 1, dtype=torch.bool)})
    dropped, gone = encoder(flagged)
    assert gone.all()
    elsewhere, _ = encoder(replace(flagged, goal=look([HERE])))
    assert torch.equal(dropped, elsewhere)
    outside = replace(look([pose(5.0, 0.0, 0.0)]), goal=look([THERE]))
    assert encoder(outside)[1].tolist() == [[True, False]]


@torch.no_grad()
def test_training_drops_clicks_by_chance() -> None:
    encoder = build(dropout=0.5).train()
    torch.manual_seed(0)
    dropped = [bool(encoder(seen())[1].all()) for _ in range(100)]
    assert 30 < sum(dropped) < 70


def test_recorded_clicks_are_read_as_pixels() -> None:
    spec = replace(scene_spec(), extras={**scene_spec().extras, "gesture": (2, 2)})
    encoder = GesturesConfig(source="clicks").build(spec, WindowSpec(), WIDTH)
    assert not encoder.goal
    clicks = torch.tensor([[[[3.0, 4.0], [-1.0, -1.0]]]])
    places, known = encoder.points.places(replace(look([HERE]), extras={"gesture": clicks}))
    assert torch.equal(places, clicks[:, 0])
    assert known.tolist() == [[True, False]]


def test_what_cannot_be_clicked_is_refused() -> None:
    blind = replace(scene_spec(), extras={})
    with pytest.raises(ConfigError, match=r"camera\.scene"):
        GesturesConfig().build(blind, WindowSpec(), WIDTH)
    wrong = replace(blind, extras={"gesture": (3,)})
    with pytest.raises(ConfigError, match=r"needs \(2, 2\): x and y of two clicks"):
        GesturesConfig(source="clicks").build(wrong, WindowSpec(), WIDTH)
    with pytest.raises(SpecError, match="no extra"):
        build().points.places(replace(look([HERE]), extras={}))
