"""Every substrate x estimator x coupling x deployment: compatible and works, or refused with a reason.

Compatible means: trains two steps, acts, is saved, reloaded and acts identically, and its controller turns the
forecast into actions. Nothing here knows which combination is which: parts come from tables, and a table that
misses a registered part fails.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from support import ToyWindows, acting_observation, data_spec
from wamkit.actions import BinsConfig, ChunkConfig
from wamkit.compose import DesignConfig
from wamkit.controllers import Chunked, Controller, OpenLoop, SingleStep
from wamkit.design import Design
from wamkit.encoders import ImagesConfig, InstructionConfig, StateConfig
from wamkit.errors import ConfigError
from wamkit.estimators import (
    AutoregressorConfig,
    DenoiserConfig,
    ProposerConfig,
    RegressorConfig,
    StateSpaceConfig,
)
from wamkit.protocols import EstimatorConfig, SubstrateConfig
from wamkit.substrates import (
    PatchPCAConfig,
    PixelLatentConfig,
    ProprioceptionConfig,
    QuantizedConfig,
    TeacherFeatureConfig,
)
from wamkit.training import OptimConfig, from_pretrained, save_pretrained
from wamkit.trunks import TransformerConfig
from wamkit.types import Budget
from wamkit.zoo.cells import COUPLINGS, Cell

SUBSTRATES: dict[str, SubstrateConfig] = {
    "pixel_latent": PixelLatentConfig(PatchPCAConfig(patch=16, features=4)),
    "teacher_feature": TeacherFeatureConfig(features=4, grid=2, steps=2, batch_size=8),
    "proprioception": ProprioceptionConfig(),
}
DISCRETE = BinsConfig(bins=16, ticks_per_token=4)
CONTINUOUS = ChunkConfig(ticks_per_token=4)
ESTIMATORS: dict[str, EstimatorConfig] = {
    "denoiser": DenoiserConfig(steps=2),
    "regressor": RegressorConfig(),
    "proposer": ProposerConfig(),
    "autoregressor": AutoregressorConfig(),
    "state_space": StateSpaceConfig(),
}
CONTROLLERS: dict[str, Controller] = {
    "chunked": Chunked(execute=4),
    "single_step": SingleStep(),
    "open_loop": OpenLoop(),
}


def cell(substrate: str, estimator: str, coupling: str) -> DesignConfig:
    """A tiny cell. An estimator of token ids gets them: actions in bins, the substrate's tokens quantised."""
    discrete = estimator in DISCRETE_ESTIMATORS
    place = SUBSTRATES[substrate]
    return Cell(
        substrate=QuantizedConfig(place, 8) if discrete else place,
        coupling=coupling,
        estimator=ESTIMATORS[estimator],
        action=DISCRETE if discrete else CONTINUOUS,
        trunk=TransformerConfig(width=16, depth=1, heads=2),
        encoders={
            "images": ImagesConfig(channels=(8, 8), keypoints=4, tokens=1, shift=0),
            "state": StateConfig(),
            "instruction": InstructionConfig(hidden=8),
        },
        horizon=8,
        stride=8,
    ).design()


DISCRETE_ESTIMATORS = {"autoregressor"}


def train_two_steps(config: DesignConfig, toy: ToyWindows) -> Design:
    torch.manual_seed(0)
    design = Design(replace(config, width=16), data_spec())
    design.fit(toy, seed=0)
    optimizer = OptimConfig().build(design)
    design.train()
    for step in range(2):
        batch = toy.windows(np.arange(step * 8, step * 8 + 8), design.training_window)
        loss = design.loss(batch).total
        assert loss.isfinite()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return design.eval()


def drive(design: Design, controller: Controller, toy: ToyWindows) -> np.ndarray:
    """One call and the actions that the controller makes of it until it wants the next."""
    observation = acting_observation(toy, [40], design.window)
    forecast, _ = design.forecast(observation, design.initial_state(1), Budget(), [3])
    state = controller.receive(controller.start(), forecast.action[0].numpy())
    actions = []
    while not controller.wants_call(state) and len(actions) < design.config.horizon:
        action, state = controller.next(state)
        actions.append(action)
    return np.stack(actions)


def test_the_cross_product(tmp_path: Path, toy: ToyWindows, capsys: pytest.CaptureFixture[str]) -> None:
    accepted, refused = 0, Counter[str]()
    for substrate in SUBSTRATES:
        for estimator in ESTIMATORS:
            for coupling in COUPLINGS:
                config = cell(substrate, estimator, coupling)
                try:
                    design = train_two_steps(config, toy)
                except ConfigError as error:
                    refused[reason(error)] += len(CONTROLLERS)
                    continue
                save_pretrained(design, tmp_path / "model")
                for name, controller in CONTROLLERS.items():
                    again = from_pretrained(tmp_path / "model")
                    first, second = drive(design, controller, toy), drive(again, controller, toy)
                    assert np.array_equal(first, second), (substrate, estimator, coupling, name)
                    assert np.isfinite(first).all()
                    accepted += 1
    total = accepted + sum(refused.values())
    with capsys.disabled():
        print(f"\ncross product: {accepted} of {total} combinations accepted and run; refused:")
        for text, count in refused.most_common():
            print(f"  {count:4}  {text}")
    assert total == len(SUBSTRATES) * len(ESTIMATORS) * len(COUPLINGS) * len(CONTROLLERS)
    assert accepted > total / 2
    assert all(re.search(r"needs|not|cannot|proposes|already", text) for text in refused)


def reason(error: ConfigError) -> str:
    """The refusal without the names of streams, so that equal reasons are counted together."""
    return re.sub(r"(stream|outputs|streams) (\[.*?\]|'[a-z]+')", r"\1 ...", str(error))[:110]


def test_no_registered_part_is_left_out() -> None:
    for table, registry in (
        (SUBSTRATES, SubstrateConfig),
        (ESTIMATORS, EstimatorConfig),
        (CONTROLLERS, Controller),
    ):
        # `quantized` is a representation of every substrate, and stands wherever an estimator needs token ids.
        missing = set(registry.get_known_choices()) - set(table) - {"quantized"}
        assert not missing, f"add a tiny config for: {sorted(missing)}"
