"""Past motion: the tokens say what moved between the observed steps, and refuse what measures no motion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from support import ToyWindows, data_spec
from wamkit.contract.types import WindowSpec
from wamkit.errors import ConfigError
from wamkit.memory import PastMotionConfig
from wamkit.substrates import OpticalFlowConfig, PixelsConfig

WINDOW = WindowSpec(observation=(-4, -2, 0), horizon=1)
FLOW = PastMotionConfig(motion=OpticalFlowConfig(grid=4))


def test_a_motion_reads_its_two_steps_and_no_other() -> None:
    encoder = FLOW.build(data_spec(), WINDOW, 16).eval()
    seen = ToyWindows().windows(np.array([20, 40]), WINDOW).observation
    frames = seen.images["scene"].clone()
    frames[:, 0] = frames[:, 0].roll(3, dims=-1)
    moved = replace(seen, images={**seen.images, "scene": frames})
    before, after = encoder.moved(seen), encoder.moved(moved)
    assert not torch.equal(before[:, 0], after[:, 0])
    assert torch.equal(before[:, 1], after[:, 1])
    tokens, pad = encoder(seen)
    assert tokens.shape[:2] == pad.shape == (2, 2 * before.shape[2])
    start = ToyWindows().windows(np.array([2]), WINDOW).observation
    assert encoder(start)[1].any()
    assert not encoder(start)[1].all()


def test_what_measures_no_motion_is_refused() -> None:
    with pytest.raises(ConfigError, match="name the substrate"):
        PastMotionConfig().build(data_spec(), WINDOW, 16)
    with pytest.raises(ConfigError, match="measures no continuous motion"):
        PastMotionConfig(motion=PixelsConfig()).build(data_spec(), WINDOW, 16)
    with pytest.raises(ConfigError, match="shows one step"):
        FLOW.build(data_spec(), replace(WINDOW, observation=(0,)), 16)
