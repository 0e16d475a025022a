"""Readings of every substrate say which part of an observation they show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from scenes import look, pose, scene_spec
from wamkit.contract.protocols import SubstrateConfig
from wamkit.contract.specs import CLOCK
from wamkit.contract.streams import Camera, Sensor, Shows, State
from wamkit.contract.types import Observation, WindowSpec
from wamkit.encoders import StateConfig
from wamkit.substrates import EmaFeature, EmaFeatureConfig

DATA = replace(
    scene_spec(),
    observation=replace(scene_spec().observation, state=("x_m", "y_m", "z_m", "gripper_open")),
    extras={**scene_spec().extras, CLOCK: (3,), "audio": (640,), "tactile": (16, 16, 3)},
)
NOTHING: Mapping[str, Shows] = {}
SHOWS: Mapping[str, Mapping[str, Shows]] = {
    "audio": NOTHING,
    "contact": {"contact": Sensor("contact")},
    "depth_map": NOTHING,
    "ema_feature": NOTHING,
    "heatmap": NOTHING,
    "motion_vectors": NOTHING,
    "normal_map": NOTHING,
    "object_flow": NOTHING,
    "optical_flow": NOTHING,
    "pixel_latent": {"scene": Camera("scene")},
    "pixels": {"scene": Camera("scene")},
    "polyline": NOTHING,
    "pose_stream": NOTHING,
    "progress": NOTHING,
    "proprioception": {"state": State()},
    "moving_frames": {"scene": Camera("scene")},
    "quantized": {"scene": Camera("scene")},
    "reward": NOTHING,
    "rgbd": {"scene": Camera("scene"), "depth.scene": Sensor("depth.scene")},
    "segmentation": NOTHING,
    "sensor_values": {"object_pose": Sensor("object_pose")},
    "tactile_image": {"tactile": Sensor("tactile")},
    "teacher_feature": NOTHING,
    "touch_divergence": NOTHING,
    "tracks": NOTHING,
    "value": NOTHING,
    "vlm_token": NOTHING,
    "wrench": {"force": Sensor("contact_force")},
}


def scene(*plates: torch.Tensor) -> Observation:
    frame = look(list(plates))
    rng = torch.Generator().manual_seed(0)
    steps = len(plates)
    extras = {
        **frame.extras,
        CLOCK: torch.tensor([3.0, 5.0, 1.0]).expand(1, steps, 3),
        "audio": torch.rand(1, steps, 640, generator=rng) - 0.5,
        "tactile": torch.randint(0, 256, (1, steps, 16, 16, 3), generator=rng, dtype=torch.uint8),
    }
    return replace(frame, extras=extras)


def test_no_substrate_is_left_out() -> None:
    assert set(SHOWS) == set(SubstrateConfig.get_known_choices())


@pytest.mark.parametrize("name", SHOWS)
def test_every_reading_says_what_it_shows(name: str) -> None:
    if name in ("optical_flow", "moving_frames", "touch_divergence"):
        pytest.importorskip("cv2")
    config = SubstrateConfig.get_choice_class(name)
    substrate = config().build(DATA)
    if isinstance(substrate, EmaFeature):
        substrate.bind({EmaFeatureConfig().encoder: StateConfig().build(DATA, WindowSpec(), 8)}, DATA)
    now, later = scene(pose(0.0, 0.0, 0.2)), scene(pose(0.1, 0.0, 0.2), pose(0.1, 0.1, 0.3))
    readings = substrate.readings(substrate.encode(later, now))
    assert {key: reading.shows for key, reading in readings.items() if reading.shows is not None} == SHOWS[
        name
    ]
