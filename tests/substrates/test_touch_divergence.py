"""Force proxy of touch: the growth of a picture that is stretched by a known factor, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from scenes import scene_spec
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError
from wamkit.substrates import TouchDivergenceConfig

cv2 = pytest.importorskip("cv2")
SIDE = 64


def touched(factor: float) -> Observation:
    """A gel with dots whose picture has grown about its centre."""
    rng = np.random.default_rng(0)
    dots = cv2.GaussianBlur(rng.uniform(0, 255, (SIDE, SIDE)).astype(np.float32), (0, 0), 2.0)
    dots = (255 * (dots - dots.min()) / (dots.max() - dots.min())).astype(np.float32)
    warp = cv2.getRotationMatrix2D((SIDE / 2 - 0.5, SIDE / 2 - 0.5), 0.0, factor)
    grown = cv2.warpAffine(dots, warp, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT).clip(0, 255)
    picture = torch.from_numpy(grown.round().astype(np.uint8))[None, None, :, :, None].expand(
        1, 1, SIDE, SIDE, 3
    )
    return Observation({}, torch.zeros(1, 1, 4), ("press",), torch.zeros(1, 1).bool(), {"tactile": picture})


def substrate(**fields: float) -> object:
    data = replace(scene_spec(), extras={"tactile": (SIDE, SIDE, 3)})
    return TouchDivergenceConfig(**fields).build(data)  # type: ignore[arg-type]


@pytest.mark.parametrize("factor", [0.97, 1.0, 1.03])
def test_growth_is_that_of_the_picture(factor: float) -> None:
    part = substrate(unit=0.1)
    values = part.encode(touched(factor), touched(1.0))  # type: ignore[attr-defined]
    assert values.shape == (1, 1, 1, 1)
    assert values.item() * 0.1 == pytest.approx(factor - 1, abs=0.01)
    assert part.readings(values)["growth"].values.item() == pytest.approx(values.item() * 0.1)  # type: ignore[attr-defined]


def test_a_picture_too_small_to_follow_is_refused() -> None:
    data = replace(scene_spec(), extras={"tactile": (8, 64, 3)})
    with pytest.raises(ConfigError, match=r"'tactile' has the shape \(8, 64, 3\) per step; .* at least 16"):
        TouchDivergenceConfig().build(data)
