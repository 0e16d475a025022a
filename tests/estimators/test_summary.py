"""Two networks, two rates: the plan of the slow one is learned through the fast one, and spares the slow one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from support import ToyWindows, acting_observation
from wamkit.contract.protocols import DataSpec
from wamkit.contract.types import Budget
from wamkit.design import Design, DesignConfig, Factor
from wamkit.encoders import ImagesConfig, SoftPromptConfig
from wamkit.errors import ConfigError
from wamkit.estimators import DenoiserConfig, RegressorConfig, SummaryConfig
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe


def pair() -> DesignConfig:
    small = TransformerConfig(width=32, depth=1, heads=2)
    return replace(
        recipe("regression"),
        encoders={"images": ImagesConfig(cameras=("scene",)), "robot": SoftPromptConfig(tokens=3)},
        states={"plan": 8},
        trunks={"slow": small, "fast": small},
        estimators={"planner": SummaryConfig(trunk="slow"), "policy": RegressorConfig(trunk="fast")},
        factors=(Factor(("plan",), (), "planner"), Factor(("action",), ("plan",), "policy")),
    )


def test_the_action_teaches_the_slow_network_and_does_not_run_it_when_given_a_plan(
    data: DataSpec, toy: ToyWindows
) -> None:
    design = Design(pair(), data)
    design.fit(toy, 0)
    design.loss(toy.windows(np.arange(20, 24), design.training_window)).terms["action"].backward()
    for part in (design.trunks["slow"], design.encoders["robot"]):
        assert any(p.grad is not None and bool(p.grad.any()) for p in part.parameters())
    design.eval()
    seen = acting_observation(toy, [30], design.window)
    plan = design.generate(seen, design.initial_state(1), "plan", Budget(), [1])
    assert plan.shape == (1, 1, 1, 8)
    free, _ = design.forecast(seen, design.initial_state(1), Budget(), [1])
    design.trunks["slow"].forward = None  # type: ignore[assignment, method-assign]
    held, _ = design.forecast(seen, design.initial_state(1), Budget(), [1], given={"plan": plan})
    torch.testing.assert_close(held.action, free.action)
    design.check_given("plan")


def test_a_stream_with_a_target_is_no_summary(data: DataSpec) -> None:
    wrong = replace(
        pair(),
        states={},
        trunks={"slow": pair().trunks["slow"]},
        estimators={"planner": SummaryConfig(trunk="slow")},
        factors=(Factor(("action",), (), "planner"),),
    )
    with pytest.raises(ConfigError, match="which has a target"):
        Design(wrong, data)


def test_a_chosen_camera_is_the_only_one_that_is_read(data: DataSpec, toy: ToyWindows) -> None:
    design = Design(pair(), data).eval()
    seen = acting_observation(toy, [30], design.window)
    dark = replace(seen, images={**seen.images, "gripper": torch.zeros_like(seen.images["gripper"])})
    encoder = design.encoders["images"]
    assert torch.equal(encoder(seen)[0], encoder(dark)[0])
    with pytest.raises(ConfigError, match="no camera 'front'"):
        ImagesConfig(cameras=("front",)).build(data, design.window, 16)


def test_a_predicted_chunk_is_reached_in_one_evaluation_or_many(data: DataSpec, toy: ToyWindows) -> None:
    """Where the network says the same data at every level, the straight path ends there after any number of steps."""
    policy = DenoiserConfig(prediction="data", temperature=1.0)
    design = Design(replace(recipe("direct"), estimators={"policy": policy}), data).eval()
    design.fit(toy, 0)
    read = design.estimators["policy"].outputs["action"]
    with torch.no_grad():
        read.outward.weight.zero_()
        read.outward.bias.copy_(torch.linspace(-1, 1, len(read.outward.bias)))
    seen = acting_observation(toy, [30], design.window)
    for steps in (1, 3, 8):
        made = design.sample(seen, ["action"], seeds=[steps], budget=Budget(nfe={"action": steps}))
        expected = read.outward.bias.expand_as(made.values["action"])
        torch.testing.assert_close(made.values["action"], expected, atol=1e-5, rtol=0)
