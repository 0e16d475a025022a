"""Painted actions: maps whose peaks are the action."""

from __future__ import annotations

import pytest
import torch

from wamkit.actions import PaintedConfig
from wamkit.actions.painted import planes_of
from wamkit.contract.protocols import DataSpec
from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec
from wamkit.errors import ConfigError

SEEN = ObservationSpec({"scene": CameraSpec(8, 8)}, ("x",), 10.0)


def data(width: int) -> DataSpec:
    names = tuple(f"a{i}" for i in range(width))
    limits = tuple(0.5 + i for i in range(width))
    return DataSpec(SEEN, ActionSpec(names, tuple(-x for x in limits), limits, 10.0, mode="delta"), {})


@pytest.mark.parametrize(("width", "planes"), [(2, 2), (3, 3), (4, 4), (7, 7)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("ticks", [1, 4])
def test_what_is_painted_is_read_back_below_a_cell(
    width: int, planes: int, channels: int, ticks: int
) -> None:
    assert len(planes_of(width)) == planes
    painted = PaintedConfig(channels=channels, ticks_per_token=ticks).build(data(width), horizon=8)
    spec = painted.spec("action")
    action = (torch.rand(3, 8, width) * 2 - 1) * torch.tensor(data(width).action.high)
    values = painted.encode(action)
    assert values.shape == (3, spec.steps, spec.tokens, spec.features)
    assert values.min() >= -1
    assert values.max() <= 1
    assert torch.allclose(painted.decode(values), action, atol=1e-3)


def test_limits_are_kept_and_what_lies_beyond_is_painted_there() -> None:
    painted = PaintedConfig().build(data(4), horizon=2)
    limit = torch.tensor(data(4).action.high).expand(1, 2, 4)
    assert torch.allclose(painted.decode(painted.encode(limit)), limit, atol=1e-4)
    assert torch.equal(painted.encode(3 * limit), painted.encode(limit))
    noise = painted.decode(torch.randn(5, *painted.encode(limit).shape[1:]))
    assert (noise.abs() <= limit[0]).all()


def test_a_token_of_three_maps_has_the_layout_of_an_rgb_patch() -> None:
    """The colours of a patch are maps of their own: the second side is in the green channel alone."""
    painted = PaintedConfig(channels=3).build(data(3), horizon=1)
    first, other = (painted.encode(torch.tensor([[[0.1, y, 0.2]]])) for y in (-0.3, 0.9))
    moved = (first != other).unflatten(3, (3, 8, 8))[0, 0, 0].flatten(1).any(dim=1)
    assert moved.tolist() == [True, False, True]  # y is on the maps (x, y) and (y, z), not on (x, z)


def test_two_maps_of_one_entry_are_averaged() -> None:
    painted = PaintedConfig().build(data(3), horizon=1)
    low, high = (painted.encode(torch.full((1, 1, 3), v)) for v in (-0.2, 0.4))
    mixed = low.clone()
    mixed[:, :, 1:] = high[:, :, 1:]  # x of the first map, and of the second
    assert torch.allclose(painted.decode(mixed)[..., 0], torch.tensor(0.1), atol=1e-3)
    assert torch.allclose(painted.decode(mixed)[..., 2], torch.tensor(0.4), atol=1e-3)


def test_ticks_must_divide_the_horizon() -> None:
    with pytest.raises(ConfigError, match="does not divide the horizon 9"):
        PaintedConfig(ticks_per_token=2).build(data(3), horizon=9)
