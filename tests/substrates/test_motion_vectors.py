"""Codec motion vectors: textures moved by known transforms, and blocks that came from nowhere."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from scenes import look, pose, scene_spec
from wamkit.contract.data import DataSpec
from wamkit.contract.specs import CameraSpec, ObservationSpec
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError
from wamkit.substrates import MotionVectorsConfig

SIZE = 64
DATA: DataSpec = replace(
    scene_spec(), observation=ObservationSpec({"scene": CameraSpec(SIZE, SIZE)}, ("x",), 40.0)
)


def texture() -> Tensor:
    noise = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0)) * 255
    return F.interpolate(noise, (2 * SIZE, 2 * SIZE), mode="bicubic").clamp(0, 255)[0]


def moved(angle: float, dx: float, dy: float) -> tuple[Tensor, Tensor]:
    """The texture turned about the picture's centre and shifted, and how far each pixel's content came, (h, w, 2)."""
    y, x = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    c, s, half = math.cos(angle), math.sin(angle), SIZE / 2
    u, v = x - half - dx, y - half - dy
    from_x, from_y = c * u + s * v + half, -s * u + c * v + half
    grid = torch.stack((from_x + half, from_y + half), dim=-1) / SIZE - 1
    picture = F.grid_sample(texture()[None], grid[None], align_corners=False)[0].round().clamp(0, 255)
    return picture.to(torch.uint8), torch.stack((x - from_x, y - from_y), dim=-1)


def film(*pictures: Tensor) -> Observation:
    frame = look([pose(0, 0, 0.2)] * len(pictures))
    return replace(frame, images={"scene": torch.stack(pictures)[None]}, extras={})


@pytest.mark.parametrize("block", [8, 16])
def test_a_translated_texture_gives_that_translation(block: int) -> None:
    shifts = [(3, 0), (-2, 4), (0, 0), (8, -6)]
    substrate = MotionVectorsConfig(block=block).build(DATA)  # type: ignore[arg-type]
    values = substrate.encode(film(*(moved(0, *by)[0] for by in shifts)), film(moved(0, 0, 0)[0]))
    spec = substrate.spec("future", "future", 4)
    assert values.shape == (1, spec.steps, spec.tokens, spec.features)
    shift, known = substrate.field(values)
    for step, by in enumerate(shifts):
        error = shift[0, step] - torch.tensor(by).float()
        inner = known[0, step, 1:-1, 1:-1]  # what came in over the edge was nowhere before
        assert inner.float().mean() > 0.75
        assert error[known[0, step]].abs().max() <= 0.5  # half a pixel is the codec's step
    assert substrate.label() == "Geometric (motion vectors)"


@pytest.mark.parametrize("block", [8, 16])
def test_vectors_follow_a_rigid_motion_of_the_picture(block: int) -> None:
    picture, truth = moved(math.radians(6), 2.0, -1.0)
    substrate = MotionVectorsConfig(block=block).build(DATA)  # type: ignore[arg-type]
    shift, known = substrate.field(substrate.encode(film(picture), film(moved(0, 0, 0)[0])))
    side = SIZE // block
    mean = truth.unflatten(0, (side, block)).unflatten(2, (side, block)).mean(dim=(1, 3))
    error = (shift[0, 0] - mean).norm(dim=-1)[known[0, 0]]
    assert known.float().mean() > 0.8
    assert mean.norm(dim=-1).max() > 5
    assert error.median() < 0.4
    assert error.max() < 1.2


def test_what_was_hidden_before_is_flagged_and_the_rest_stands_still() -> None:
    before = moved(0, 0, 0)[0]
    after = before.clone()
    after[:, 16:32, 16:48] = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (3, 16, 32)))
    substrate = MotionVectorsConfig().build(DATA)
    values = substrate.encode(film(after), film(before))
    shift, known = substrate.field(values)
    expected = torch.ones(4, 4, dtype=torch.bool)
    expected[1, 1:3] = False
    assert torch.equal(known[0, 0], expected)
    assert (shift == 0).all()
    assert torch.equal(substrate.encode(film(after), film(before)), values)


def test_vectors_refuse_at_build() -> None:
    with pytest.raises(ConfigError, match=r"no camera 'scen'. Did you mean 'scene'"):
        MotionVectorsConfig("scen").build(DATA)
    with pytest.raises(ConfigError, match="must be multiples of 16"):
        MotionVectorsConfig().build(
            replace(DATA, observation=ObservationSpec({"scene": CameraSpec(40, 64)}, ("x",), 40.0))
        )
    with pytest.raises(ConfigError, match=r"MotionVectorsConfig\.block: must be one of 8, 16, got 12"):
        MotionVectorsConfig(block=12)  # type: ignore[arg-type]
