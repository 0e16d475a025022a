"""Recovered paths under constraints (`pl.constraint-trajopt`), and futures one after the other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from scenes import look, pose, scene_spec
from wamkit.actions import ChunkConfig
from wamkit.contract.specs import ActionSpec
from wamkit.contract.types import Budget
from wamkit.controllers import Chunked
from wamkit.design import Design, DesignConfig, Factor, FutureConfig
from wamkit.encoders import StateConfig
from wamkit.errors import ConfigError
from wamkit.estimators import DenoiserConfig, MotionRecoveryConfig
from wamkit.geometry.following import Box, FollowConfig
from wamkit.substrates import TracksConfig
from wamkit.trunks import TransformerConfig

H, OFFSETS, UNIT = 6, (2, 6), 0.1
HAND = np.array([0.05, -0.02, 0.3])
PLACE = ("x_m", "y_m", "z_m")
START, PATH = pose(0.02, 0.01, 0.1), [pose(0.05, 0.02, 0.12), pose(0.1, -0.03, 0.2)]
GOES = np.array([0.08, -0.04, 0.1])  # of the plate and so of the hand, in H ticks


def built(futures: dict[str, tuple[int, ...]], **options: Any) -> Design:
    torch.manual_seed(0)
    names = tuple(futures)
    config = DesignConfig(
        name="followed",
        horizon=H,
        width=32,
        encoders={"state": StateConfig()},
        substrates={"motion": TracksConfig(points=10)},
        futures={name: FutureConfig("motion", offsets) for name, offsets in futures.items()},
        action=ChunkConfig(),
        trunks={"main": TransformerConfig(width=32, depth=1, heads=2)},
        estimators={
            "video": DenoiserConfig(steps=2),
            "recovery": MotionRecoveryConfig(unit_m=UNIT, position=PLACE, **options),
        },
        factors=(Factor(names, (), "video"), Factor(("action",), names, "recovery")),
        controller=Chunked(execute=H),
    )
    return Design(config, scene_spec()).eval()


def path(futures: dict[str, tuple[int, ...]], **options: Any) -> tuple[np.ndarray, bool]:
    """Places (H, 3) of the hand when the true future is given, and the flag."""
    design = built(futures, **options)
    now = replace(look([START]), state=torch.tensor([[[*HAND, 0.0]]]).float())
    given = {}
    for name, offsets in futures.items():
        later = look([PATH[OFFSETS.index(offset)] for offset in offsets])
        given[name] = design.substrate(name).encode(later, now)
    forecast, _ = design.forecast(now, design.initial_state(1), Budget(), [0], given=given)
    steps = forecast.action[0, :, :3].double().numpy() * UNIT
    return HAND + np.cumsum(steps, axis=0), bool(forecast.flags["action"][0])


def test_a_free_path_is_the_recovered_one() -> None:
    plain, flagged = path({"future": OFFSETS})
    followed, kept = path({"future": OFFSETS}, follow=FollowConfig(smooth=0.0))
    assert not flagged
    assert not kept
    np.testing.assert_allclose(followed, plain, atol=1e-5)
    np.testing.assert_allclose(plain[-1], HAND + GOES, atol=1e-5)


def test_a_box_on_the_way_is_avoided_and_the_end_is_reached() -> None:
    middle = HAND + np.array([0.04, 0.0, 0.03])
    box = Box(tuple(middle - 0.01), tuple(middle + 0.01))
    plain, _ = path({"future": OFFSETS})
    assert (box.depth(np.linspace(plain[0], plain[1], 50)) > 0).any() or (box.depth(plain) > -0.01).any()
    followed, flagged = path({"future": OFFSETS}, follow=FollowConfig(keep_out=(box,), error_m=0.05))
    assert not flagged
    assert (box.depth(followed) <= 1e-5).all()
    np.testing.assert_allclose(followed[-1], plain[-1], atol=0.01)


def test_what_cannot_be_followed_is_flagged() -> None:
    low = Box((-1.0, -1.0, 0.0), (1.0, 1.0, 0.31))  # the plate rises by 0.1
    followed, flagged = path({"future": OFFSETS}, follow=FollowConfig(workspace=low))
    assert flagged
    assert followed[:, 2].max() <= 0.31 + 1e-5
    elsewhere = Box((1.0, 1.0, 1.0), (2.0, 2.0, 2.0))
    assert path({"future": OFFSETS}, follow=FollowConfig(workspace=elsewhere, error_m=10.0))[1]


def test_futures_one_after_the_other_are_one_motion() -> None:
    whole, _ = path({"future": OFFSETS})
    parts, flagged = path({"near": (2,), "far": (6,)})
    assert not flagged
    np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="they must ascend"):
        built({"far": (6,), "near": (2,)})
    data = scene_spec()
    absolute = ActionSpec(PLACE, (-9.0,) * 3, (9.0,) * 3, 40.0, "absolute", "world", "none", "none")
    stats = {**data.stats, "action": {"mean": np.zeros(3), "std": np.ones(3)}}
    config = built({"future": OFFSETS}, follow=FollowConfig()).config
    with pytest.raises(ConfigError, match="follow plans steps of delta actions"):
        Design(config, replace(data, action=absolute, stats=stats))
    bounded = FollowConfig(workspace=Box((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
    blind = MotionRecoveryConfig(unit_m=UNIT, follow=bounded)
    unplaced = replace(config, estimators={**config.estimators, "recovery": blind})
    with pytest.raises(ConfigError, match="name the three state entries"):
        Design(unplaced, data)
