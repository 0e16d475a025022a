"""Estimated flow: textures that were shifted by known pixels."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from scenes import look, pose, scene_spec
from wamkit.contract.data import DataSpec
from wamkit.contract.specs import CameraSpec, ObservationSpec
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError, MissingExtraError
from wamkit.substrates import OpticalFlowConfig

pytest.importorskip("cv2")
SIZE = 64
DATA: DataSpec = replace(
    scene_spec(), observation=ObservationSpec({"scene": CameraSpec(SIZE, SIZE)}, ("x",) * 1, 40.0)
)


def texture() -> Tensor:
    noise = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0)) * 255
    return F.interpolate(noise, (2 * SIZE, 2 * SIZE), mode="bicubic").clamp(0, 255)[0].to(torch.uint8)


def shifted(*by: tuple[int, int]) -> Observation:
    """The texture moved right and down by these pixels, one per step."""
    big = texture()
    views = [big[:, 32 - dy : 32 - dy + SIZE, 32 - dx : 32 - dx + SIZE] for dx, dy in by]
    frame = look([pose(0, 0, 0.2)] * len(by))
    return replace(frame, images={"scene": torch.stack(views)[None]}, extras={})


def test_a_shift_by_known_pixels_is_found() -> None:
    substrate = OpticalFlowConfig().build(DATA)
    values = substrate.encode(shifted((3, 0), (-2, 4), (0, 0)), shifted((0, 0)))
    spec = substrate.spec("future", "future", 3)
    assert values.shape == (1, spec.steps, spec.tokens, spec.features) == (1, 3, 8, 16)
    inner = substrate.field(values)[0, :, 2:-2, 2:-2]
    for step, (dx, dy) in enumerate([(3, 0), (-2, 4), (0, 0)]):
        error = (inner[step] - torch.tensor([float(dx), float(dy)])).norm(dim=-1)
        assert error.max() < 0.3
    assert substrate.label() == "Geometric (estimated flow)"


def test_only_what_moves_flows() -> None:
    now, later = shifted((0, 0)), shifted((0, 0))
    half = later.images["scene"].clone()
    half[..., 32:] = shifted((0, 3)).images["scene"][..., 32:]
    field = OpticalFlowConfig().build(DATA)
    flow = field.field(field.encode(replace(later, images={"scene": half}), now))[0, 0]
    assert flow[2:-2, :3].norm(dim=-1).max() < 0.2
    torch.testing.assert_close(flow[2:-2, 5:7, 1], torch.full((4, 2), 3.0), atol=0.3, rtol=0)


def test_flow_refuses_at_build(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="multiples of grid = 5"):
        OpticalFlowConfig(grid=5).build(DATA)
    with pytest.raises(ConfigError, match=r"no camera 'scen'. Did you mean 'scene'"):
        OpticalFlowConfig("scen").build(DATA)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r"wamkit\[flow\]"):
        OpticalFlowConfig().build(DATA)
