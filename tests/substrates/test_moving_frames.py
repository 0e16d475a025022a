"""Motion found in predicted frames: a plate that is shifted and turned, a body that comes apart, frames with depth."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from wamkit.contract.protocols import DataSpec
from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec
from wamkit.contract.streams import Reading, Sensor
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError
from wamkit.geometry.recovery import rigid_path
from wamkit.substrates import DepthMapConfig, MovingFramesConfig, PatchPCAConfig, PixelsConfig, RGBDConfig
from wamkit.substrates.label_maps import CLASS_IDS

SIDE, FAR, ANGLE = 96, 1.0, 45.0
PLATE = slice(28, 68)
LENGTH = SIDE / 2 / np.tan(np.deg2rad(ANGLE) / 2)  # pixels
EXACT = PixelsConfig(cameras=("scene",), shrink=1, patch=8)


def data() -> DataSpec:
    seen = ObservationSpec({"scene": CameraSpec(SIDE, SIDE)}, ("x_m",), 10.0)
    action = ActionSpec(("dx", "dy", "dz"), (-1.0,) * 3, (1.0,) * 3, 10.0, mode="delta")
    extras = {"camera.scene": (8,), "depth.scene": (SIDE, SIDE), "segmentation.scene": (SIDE, SIDE)}
    return DataSpec(seen, action, {}, extras)


def texture(seed: int) -> np.ndarray:
    """Smooth random picture (SIDE, SIDE), which flow can follow."""
    noise = np.random.default_rng(seed).random((SIDE // 4, SIDE // 4)).astype(np.float32)
    return cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).clip(0, 1)


def picture(*pieces: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Background with pieces (mask, 2 x 3 affine map of pixels) of one plate on it, (SIDE, SIDE) in [0, 1]."""
    shown = texture(1) * 0.5
    for mask, moved in pieces:
        there = cv2.warpAffine(mask.astype(np.float32), moved, (SIDE, SIDE)) > 0.5
        shown = np.where(there, cv2.warpAffine(texture(2), moved, (SIDE, SIDE)), shown)
    return shown


def observed(frames: list[np.ndarray], depth: list[float]) -> Observation:
    """Observation of T frames, the camera above, looking down on a table at ``FAR``."""
    steps = len(frames)
    images = torch.from_numpy((np.stack(frames) * 255).round().astype(np.uint8))[None, :, None].repeat(
        1, 1, 3, 1, 1
    )
    labels = torch.zeros(1, steps, SIDE, SIDE, dtype=torch.uint8)
    labels[:, :, PLATE, PLATE] = CLASS_IDS["object"]
    camera = torch.tensor([0.0, 0, FAR, 1, 0, 0, 0, ANGLE]).expand(1, steps, 8)  # looks along -z
    deep = torch.tensor(depth)[None, :, None, None].expand(1, steps, SIDE, SIDE)
    extras = {"camera.scene": camera, "depth.scene": deep, "segmentation.scene": labels}
    return Observation(
        {"scene": images},
        torch.zeros(1, steps, 1),
        ("move",),
        torch.zeros(1, steps, dtype=torch.bool),
        extras,
    )


def plate(columns: slice = PLATE) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[PLATE, columns] = True
    return mask


def shifted(x: float, y: float, turn: float = 0.0) -> np.ndarray:
    """Affine map of pixels: a turn (degrees) about the middle, then a shift."""
    found = cv2.getRotationMatrix2D((SIDE / 2 - 0.5, SIDE / 2 - 0.5), turn, 1.0)
    found[:, 2] += (x, y)
    return found


STILL = shifted(0, 0)
NOW = observed([picture((plate(), STILL))], [FAR])


def path(config: MovingFramesConfig, later: Observation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Motion of the plate's centre (T, 3), its turn (T,) in degrees, and whether each step is one rigid motion."""
    substrate = config.build(data())
    motion = substrate.moving_points(substrate.encode(later, NOW), NOW, "object")
    assert motion.anchored
    tracks = torch.cat((motion.start[:, None], motion.later), dim=1)[0].double().numpy()
    seen = torch.cat((torch.ones_like(motion.known[:, :1]), motion.known), dim=1)[0].numpy()
    found = rigid_path(tracks, seen, 0.01, 0.8)
    centre = tracks[0].mean(axis=0)
    carried = np.einsum("tij,j->ti", found.rotation, centre) + found.translation - centre
    turn = np.rad2deg(np.arctan2(found.rotation[:, 1, 0], found.rotation[:, 0, 0]))
    return carried[1:], turn[1:], found.rigid[1:]


@pytest.mark.parametrize("follow", ["frame_to_frame", "since_now"])
def test_a_plate_that_is_shifted_and_turned_is_found_in_its_pictures(follow: str) -> None:
    maps = [shifted(2, 1, 3), shifted(4, 2, 6)]
    later = observed([picture((plate(), m)) for m in maps], [FAR] * 2)
    centre, turn, rigid = path(MovingFramesConfig(EXACT, follow=follow), later)  # type: ignore[arg-type]
    pixel = FAR / LENGTH
    assert rigid.all()
    np.testing.assert_allclose(centre[:, 0], [2 * pixel, 4 * pixel], atol=0.4 * pixel)
    np.testing.assert_allclose(centre[:, 1], [-pixel, -2 * pixel], atol=0.4 * pixel)
    np.testing.assert_allclose(turn, [3, 6], atol=1)
    assert np.abs(centre[:, 2]).max() < 0.03


def test_a_body_that_comes_apart_is_no_rigid_motion() -> None:
    left, right = plate(slice(28, 48)), plate(slice(48, 68))
    apart = picture((left, shifted(-4, 0)), (right, shifted(4, 0)))
    *_, rigid = path(MovingFramesConfig(EXACT), observed([apart], [FAR]))
    assert not rigid.any()


def test_depth_that_the_frames_predict_lifts_the_body() -> None:
    """Pictures stand still and their depth falls: the plate is lifted towards the camera."""
    substrate = MovingFramesConfig(EXACT, lift="depth").build(data())
    later = observed([picture((plate(), STILL))], [FAR - 0.1])
    values = substrate.encode(later, NOW)
    with pytest.raises(ConfigError, match="frames that predict depth"):
        substrate.moving_points(values, NOW, "object")
    predicted = Reading("quantity", later.extras["depth.scene"], "m", shows=Sensor("depth.scene"))
    substrate.inner.readings = lambda values: {"depth": predicted}  # type: ignore[method-assign]
    motion = substrate.moving_points(values, NOW, "object")
    rise = (motion.later - motion.start[:, None])[..., 2]
    assert motion.known.all()
    assert torch.allclose(rise, torch.full_like(rise, 0.1), atol=5e-3)


def test_cells_name_what_is_decoded_and_what_is_predicted_with_it() -> None:
    codec = PatchPCAConfig(patch=8, features=4)
    frames, surfaces = (RGBDConfig(("scene",), codec, normals=normals) for normals in (False, True))
    cells = {
        (EXACT, "rigid"): (("Pixel", "decoded"),),
        (frames, "rigid"): (("Pixel", "decoded"),),
        (frames, "depth"): (("Geometric", ""), ("Pixel", "decoded")),
        (surfaces, "depth"): (("Geometric", ""),),
    }
    for (inner, lift), expected in cells.items():
        assert MovingFramesConfig(inner, lift=lift).build(data()).cell() == expected  # type: ignore[arg-type]


def test_a_body_out_of_sight_is_not_known() -> None:
    substrate = MovingFramesConfig(EXACT).build(data())
    motion = substrate.moving_points(substrate.encode(NOW, NOW), NOW, "gripper")
    assert not motion.known.any()


def test_what_cannot_show_motion_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be decoded"):
        MovingFramesConfig(DepthMapConfig()).build(data())
    blind = replace(data(), extras={})
    with pytest.raises(ConfigError, match=r"camera\.scene"):
        MovingFramesConfig(EXACT).build(blind)
