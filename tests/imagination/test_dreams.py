"""Imagined observations hold what the readings of a world's futures show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from scenes import look, pose, scene_spec
from wamkit.actions import ChunkConfig
from wamkit.contract.data import DataSpec
from wamkit.contract.types import Forecast, Observation
from wamkit.controllers import Chunked
from wamkit.design import Design, DesignConfig, Factor, FutureConfig
from wamkit.encoders import StateConfig
from wamkit.errors import ConfigError
from wamkit.estimators import RegressorConfig
from wamkit.imagination.dreams import imagined_observation
from wamkit.substrates import (
    ContactConfig,
    PatchPCAConfig,
    PixelsConfig,
    ProprioceptionConfig,
    TactileFutureConfig,
    WrenchConfig,
)
from wamkit.trunks import TransformerConfig

STEP = 4
SUBSTRATES = {
    "pictures": PixelsConfig(shrink=1),
    "body": ProprioceptionConfig(),
    "force": WrenchConfig(),
    "contact": ContactConfig(),
    # As many components as values, so that the codec is exact.
    "touch": TactileFutureConfig(codec=PatchPCAConfig(patch=2, features=12)),
}


def world(*futures: str) -> Design:
    """A world model, untrained, of a scene with a tactile sensor."""
    config = DesignConfig(
        name="lab",
        horizon=STEP,
        width=32,
        encoders={"state": StateConfig()},
        substrates={name: SUBSTRATES[name] for name in futures},
        futures={name: FutureConfig(name, (STEP,)) for name in futures},
        action=ChunkConfig(ticks_per_token=STEP),
        trunks={"main": TransformerConfig(width=32, depth=1, heads=2)},
        estimators={"policy": RegressorConfig(), "world": RegressorConfig()},
        factors=(Factor(("action",), (), "policy"), Factor(futures, ("action",), "world")),
        controller=Chunked(STEP),
    )
    return Design(config, spec()).eval()


def spec() -> DataSpec:
    bare = scene_spec()
    state = {name: np.full(4, values[0]) for name, values in bare.stats["observation.state"].items()}
    return replace(
        bare,
        extras={**bare.extras, "tactile": (16, 16, 3)},
        stats={**bare.stats, "observation.state": state},
    )


def seen(x: float, seed: int) -> Observation:
    """One row of the scene in which every sensor reads something."""
    frame, rng = look([pose(x, 0.0, 0.2)]), torch.Generator().manual_seed(seed)
    sensors = {
        "contact": torch.randint(0, 2, (1, 1, 3), generator=rng, dtype=torch.uint8),
        "contact_force": torch.randn(1, 1, 3, 3, generator=rng) * 10,
        "tactile": torch.randint(0, 256, (1, 1, 16, 16, 3), generator=rng, dtype=torch.uint8),
    }
    return replace(frame, state=torch.rand(1, 1, 4, generator=rng), extras=sensors)


def forecast(design: Design, end: Observation) -> Forecast:
    """A forecast that is right."""
    values = {name: design.substrate(name).encode(end) for name in design.config.futures}
    return Forecast(torch.zeros(1, STEP, 4), values)


def test_a_right_forecast_shows_what_is_then_seen() -> None:
    design, before, end = world(*SUBSTRATES), seen(0.0, 0), seen(0.1, 1)
    imagined = imagined_observation(design, before, forecast(design, end))
    assert torch.equal(imagined.images["scene"], end.images["scene"])
    torch.testing.assert_close(imagined.state, end.state)
    assert imagined.extras.keys() == end.extras.keys()
    torch.testing.assert_close(dict(imagined.extras), dict(end.extras), atol=1e-4, rtol=1e-4)


def test_fixed_sensors_stay_and_sensors_that_are_not_observed_are_left_out() -> None:
    design, before, end = world(*SUBSTRATES), seen(0.0, 0), seen(0.1, 1)
    less = replace(before, extras={name: before.extras[name] for name in ("contact", "tactile")})
    imagined = imagined_observation(design, less, forecast(design, end), fixed=("tactile",))
    assert imagined.extras.keys() == {"contact", "tactile"}
    assert torch.equal(imagined.extras["contact"], end.extras["contact"])
    assert torch.equal(imagined.extras["tactile"], before.extras["tactile"])


def test_a_tactile_picture_does_not_take_the_place_of_a_camera_of_its_name() -> None:
    """Names of readings do not matter: a sensor and a camera may share theirs."""
    design, end = world("pictures", "body", "touch"), seen(0.1, 1)
    before = seen(0.0, 0)
    two = replace(before, images={**before.images, "tactile": before.images["scene"]})
    with pytest.raises(ConfigError, match="imagines no camera 'tactile'"):
        imagined_observation(design, two, forecast(design, end))


def test_observed_windows_move_on_by_the_imagined_step() -> None:
    """The oldest step goes, the imagined one is the last; other spacings than a step of the world are refused."""
    design, before, end = world("pictures", "body"), seen(0.0, 0), seen(0.1, 1)
    bare = replace(before, extras={})
    older = seen(-0.1, 2)
    two = replace(
        bare,
        images={"scene": torch.cat((older.images["scene"], bare.images["scene"]), dim=1)},
        state=torch.cat((older.state, bare.state), dim=1),
        pad=torch.tensor([[True, False]]),
    )
    imagined = imagined_observation(design, two, forecast(design, end), offsets=(-STEP, 0))
    assert torch.equal(imagined.images["scene"][:, :1], bare.images["scene"])
    assert torch.equal(imagined.images["scene"][:, 1:], end.images["scene"])
    assert torch.equal(imagined.state[:, 0], bare.state[:, 0])
    torch.testing.assert_close(imagined.state[:, 1:], end.state)
    assert imagined.pad.tolist() == [[False, False]]
    with pytest.raises(ConfigError, match="Observe \\(0,\\), or steps that are 4 ticks apart"):
        imagined_observation(design, two, forecast(design, end), offsets=(-3, 0))
