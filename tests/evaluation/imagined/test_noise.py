"""No two draws of a dream share noise: world and policy, steps, rows, purposes; policies are compared on the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from noise import record_noise
from torch import Tensor

from support import ToyWindows, data_spec
from wamkit.controllers import Chunked
from wamkit.data import Dataset, DatasetWriter, Episode
from wamkit.design import Design, DesignConfig, Factor, FutureConfig
from wamkit.encoders import InstructionConfig
from wamkit.envs import MetaWorldConfig
from wamkit.estimators import DenoiserConfig
from wamkit.evaluation.imagined.drift import one_step
from wamkit.evaluation.imagined.frames import TaskFrames
from wamkit.evaluation.imagined.stage import DreamPlan, set_up_dreams
from wamkit.imagination.dreams import DesignPolicy, Dream
from wamkit.substrates import PatchPCAConfig, PixelLatentConfig, ProprioceptionConfig
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe

TASK, ROWS, STEPS = "drawer-open-v3", 4, 5


def noisy_world() -> DesignConfig:
    """Cameras and body after four actions, denoised: every step draws noise."""
    return DesignConfig(
        name="world",
        horizon=4,
        stride=4,
        width=32,
        encoders={"instruction": InstructionConfig()},
        substrates={
            "video": PixelLatentConfig(PatchPCAConfig(patch=16, features=4)),
            "body": ProprioceptionConfig(),
        },
        futures={"future": FutureConfig("video", (4,)), "body": FutureConfig("body", (4,))},
        trunks={"main": TransformerConfig(width=32, depth=1, heads=2)},
        estimators={"world": DenoiserConfig(steps=1), "policy": DenoiserConfig(steps=1)},
        factors=(Factor(("action",), (), "policy"), Factor(("future", "body"), ("action",), "world")),
        controller=Chunked(4),
    )


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> TaskFrames:
    words = replace(MetaWorldConfig(), task=TASK).phrases()[0]
    root, spec = tmp_path_factory.mktemp("noise") / "data", data_spec()
    with DatasetWriter(root, spec.observation, spec.action) as writer:
        for i in range(ROWS):
            toy = ToyWindows(24, seed=i)
            images = {c: np.ascontiguousarray(v.transpose(0, 2, 3, 1)) for c, v in toy.images.items()}
            writer.add(Episode(images, toy.state, toy.action, words))
    return TaskFrames(Dataset(root), MetaWorldConfig(), (TASK,))


def built(config: DesignConfig, shown: TaskFrames) -> Design:
    torch.manual_seed(0)
    design = Design(config, data_spec())
    design.fit(shown.dataset, 0)
    return design.eval()


def ends(finished: Dream) -> Tensor:
    return finished.observation().state[:, 0, 0]


@pytest.fixture(scope="module")
def world(shown: TaskFrames) -> Design:
    return built(noisy_world(), shown)


def test_no_two_draws_of_a_dream_share_noise(
    world: Design, shown: TaskFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = built(replace(recipe("joint"), name="policy"), shown)
    setup, executed = set_up_dreams(world, shown, None, {TASK: ends}, DreamPlan((2, STEPS), 3))
    recorded = record_noise(monkeypatch)
    setup.scores("policy", DesignPolicy(policy, setup.seeds))
    names = [name for name, _ in recorded.seeds]
    assert (names.count("policy"), names.count("world")) == (ROWS * STEPS, ROWS * STEPS)
    assert recorded.shared_seeds() == []
    assert len(recorded.draws) >= 2 * ROWS * STEPS
    assert recorded.shared_draws() == 0
    one_step(setup, shown)  # other draws of the same setup
    other, _ = set_up_dreams(world, shown, None, {TASK: ends}, DreamPlan((STEPS,), 4))
    other.dream(executed.replay)
    assert recorded.shared_seeds() == []
    assert recorded.shared_draws() == 0


def test_policies_are_compared_under_the_same_noise_of_the_world(
    world: Design, shown: TaskFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup, executed = set_up_dreams(world, shown, None, {TASK: ends}, DreamPlan((STEPS,), 3))
    recorded = record_noise(monkeypatch)
    setup.scores("a", executed.replay)
    setup.scores("b", lambda so_far: torch.zeros(ROWS, 4, 4))
    half = len(recorded.seeds) // 2
    assert recorded.seeds[:half] == recorded.seeds[half:]
