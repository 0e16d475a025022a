"""A checkpoint of a renamed robot fits the environments of an evaluation through a view."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from small_runs import settings
from wamkit import api
from wamkit.contract.specs import CameraSpec
from wamkit.data import DatasetWriter, Episode
from wamkit.envs import MetaWorldConfig
from wamkit.errors import SpecError
from wamkit.evaluation.closed_loop.plan import EvaluationConfig
from wamkit.evaluation.closed_loop.rollout import prepare
from wamkit.verbs.acting import policy_in
from wamkit.views import ViewConfig

EVALUATION = EvaluationConfig(tasks=("drawer-open-v3",), episodes=1, workers=1, slots=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A design that was trained on the simulator's robot, with cameras of other names and sizes."""
    root, env = tmp_path_factory.mktemp("renamed"), MetaWorldConfig()
    cameras = {"front": CameraSpec(60, 80), "wrist": CameraSpec(60, 80)}
    observation, action = replace(env.observation_spec(), cameras=cameras), env.action_spec()
    rng = np.random.default_rng(0)
    with DatasetWriter(root / "data", observation, action) as writer:
        frames = {name: np.zeros((20, 60, 80, 3), np.uint8) for name in cameras}
        state = rng.uniform(-1, 1, (20, len(observation.state))).astype(np.float32)
        writer.add(Episode(frames, state, rng.uniform(-1, 1, (20, 4)).astype(np.float32), "open the drawer"))
    return api.train(settings(root, root / "run", steps=1), progress=False)


def test_a_view_makes_the_environment_the_robot_of_the_recording(model: Path) -> None:
    with pytest.raises(SpecError, match=r"cameras.front: 60 x 80 pixels against none \(view: cameras\)"):
        prepare(policy_in(EVALUATION, model, "cpu", ViewConfig()), EVALUATION)
    view = ViewConfig(cameras={"front": "scene", "wrist": "gripper"}, size=(60, 80))
    policy = policy_in(EVALUATION, model, "cpu", view)
    assert policy.observation_spec == MetaWorldConfig().observation_spec()
    prepare(policy, EVALUATION)


def test_a_view_that_leads_elsewhere_is_refused_with_what_is_left(model: Path) -> None:
    view = ViewConfig(cameras={"front": "scene", "wrist": "gripper"})
    with pytest.raises(
        SpecError, match=r"through the view (?s:.*)60 x 80 pixels against 64 x 64 pixels \(view: size"
    ):
        policy_in(EVALUATION, model, "cpu", view)
