"""Parts that read recorded ground truth, on a real recording: train, save, reload, act, and act in the simulator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wamkit.contract.protocols import SubstrateConfig
from wamkit.contract.types import Budget
from wamkit.controllers import Chunked
from wamkit.data import Dataset
from wamkit.data.spec import data_spec
from wamkit.design import Design, DesignConfig, Factor, FutureConfig
from wamkit.design.checkpoint import from_pretrained
from wamkit.encoders import BodySensorsConfig, DepthConfig, GoalImageConfig, StateConfig
from wamkit.envs import MetaWorldConfig
from wamkit.envs.ground_truth import RECORDABLE
from wamkit.errors import SpecError
from wamkit.estimators import DenoiserConfig
from wamkit.evaluation.closed_loop.rollout import EvaluationConfig, rollout
from wamkit.substrates import (
    ContactConfig,
    DepthMapConfig,
    HeatmapConfig,
    MotionVectorsConfig,
    NormalMapConfig,
    ObjectFlowConfig,
    PatchPCAConfig,
    PixelLatentConfig,
    PixelsConfig,
    PolylineConfig,
    PoseStreamConfig,
    ProgressConfig,
    RGBDConfig,
    SegmentationConfig,
    SensorValuesConfig,
    TracksConfig,
    VAEConfig,
    ValueConfig,
    WrenchConfig,
)
from wamkit.training import TrainConfig, train
from wamkit.trunks import TransformerConfig
from wamkit.verbs.collect import CollectConfig, collect

pytestmark = pytest.mark.sim
SIZE = 32
SENSORS = ("contact_force", "depth.scene", "camera.scene")
SUBSTRATES: dict[str, SubstrateConfig] = {
    "contact": ContactConfig(),
    "depth_map": DepthMapConfig(grid=4),
    "heatmap": HeatmapConfig(grid=8),
    "heatmap of contact": HeatmapConfig(grid=8, where="contact"),
    "heatmap worth its value": HeatmapConfig(grid=8, where="object", discount=0.98),
    "motion_vectors": MotionVectorsConfig(),
    "normal_map": NormalMapConfig(grid=4),
    "object_flow": ObjectFlowConfig(grid=4),
    "pixels": PixelsConfig(shrink=4, patch=4),
    "polyline": PolylineConfig(),
    "polyline of a view": PolylineConfig(camera="scene"),
    "pose_stream": PoseStreamConfig(),
    "progress": ProgressConfig(),
    "rgbd": RGBDConfig(codec=PatchPCAConfig(16, 8)),
    "rgbd with normals": RGBDConfig(codec=PatchPCAConfig(16, 8), normals=True),
    "sensor_values": SensorValuesConfig(("object_pose", "gripper_motion")),
    "segmentation": SegmentationConfig(grid=4),
    "tracks": TracksConfig(points=4),
    "vae": PixelLatentConfig(VAEConfig(patch=8, features=4, channels=8, steps=3)),
    "value": ValueConfig(),
    "wrench": WrenchConfig(),
}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ground_truth") / "data"
    size = {"image_size": SIZE, "cameras": ("scene",)}
    collect(
        CollectConfig(out, ("button-press-topdown-v3",), episodes=1, workers=1, record=RECORDABLE, **size),  # type: ignore[arg-type]
        progress=False,
    )
    return out


def design_of(substrate: SubstrateConfig) -> DesignConfig:
    return DesignConfig(
        horizon=8,
        stride=4,
        width=16,
        encoders={
            "state": StateConfig(),
            "touch": BodySensorsConfig(("contact_force",)),
            "depth": DepthConfig(grid=2),
            "goal": GoalImageConfig(channels=(4, 4), keypoints=2),
        },
        substrates={"s": substrate},
        futures={"future": FutureConfig("s", (4, 8))},
        trunks={"main": TransformerConfig(width=16, depth=1, heads=2)},
        estimators={"world": DenoiserConfig(steps=1, draws=1)},
        factors=(Factor(("future", "action"), (), "world"),),
        controller=Chunked(4),
    )


@pytest.mark.parametrize("name", sorted(SUBSTRATES))
def test_every_substrate_is_a_target_that_a_design_learns_and_predicts(name: str, recording: Path) -> None:
    config = design_of(SUBSTRATES[name])
    plain = Dataset(recording)
    torch.manual_seed(0)
    design = Design(config, data_spec(plain))
    data = plain.with_extras(design.extras)
    design.fit(data, 0)
    assert design.sensors == tuple(sorted(SENSORS))
    batch = data.windows(np.array([0, 5, data.num_frames - 2]), design.training_window)
    values = design.targets(batch)["future"].values
    assert values.isfinite().all()
    assert values.abs().max() < 100
    losses = design.loss(batch)
    losses.total.backward()
    assert losses.total.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in design.parameters())
    design.eval()
    seen = batch.observation.steps([-1])
    acting = replace(seen, extras={name: seen.extras[name] for name in design.sensors})
    forecast, _ = design.forecast(acting, design.initial_state(3), Budget(), [1, 2, 3])
    assert forecast.future["future"].shape == values.shape
    assert forecast.action.isfinite().all()


def test_a_design_that_feels_is_trained_saved_and_evaluated(recording: Path, tmp_path: Path) -> None:
    training = TrainConfig(
        recording, tmp_path / "run", design_of(SUBSTRATES["pose_stream"]), steps=2, batch_size=4
    )
    train(training, progress=False)
    design = from_pretrained(tmp_path / "run" / "model")
    env = MetaWorldConfig(image_size=SIZE, cameras=("scene",), max_ticks=6)
    config = EvaluationConfig(
        ("button-press-topdown-v3",), episodes=1, env=env, workers=1, slots=1, films=0, latency_calls=0
    )
    with pytest.raises(SpecError, match=r"reads the extra .* Add .* to the environment's `record`"):
        rollout(design, config, progress=False)
    env = replace(env, record=("contact_force", "depth", "camera"))
    feeling = replace(config, env=env, drop=("goal",))
    report = rollout(design, feeling, progress=False).report
    assert report.overall.statuses["error"] == 0
    assert report.overall.n == 1
