"""Inverse dynamics: actions recovered from pairs of a toy world, masks that ignore backgrounds, use in a design."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from support import ToyWindows, acting_observation
from wamkit.contract.calls import Call
from wamkit.contract.data import DataSpec
from wamkit.contract.streams import RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget
from wamkit.design import Design, FutureConfig, from_pretrained, save_pretrained
from wamkit.errors import ConfigError
from wamkit.estimators import InverseDynamicsConfig
from wamkit.estimators.inverse_dynamics import InverseDynamics
from wamkit.substrates import PatchPCAConfig, PixelLatentConfig
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe

SIDE = 3
BEFORE = StreamSpec("before", "future", 1, SIDE * SIDE, 4)
AFTER = replace(BEFORE, name="after")
ACTION = StreamSpec("action", "action", 1, 1, 2)


def picture(position: Tensor, g: torch.Generator) -> Tensor:
    """A point on a grid of cells before a noisy background: (B, 2) in [0, 1) -> (B, 1, cells, 4)."""
    cell = (position * SIDE).floor().clamp(0, SIDE - 1)
    inside = position * SIDE - cell
    out = torch.rand(len(position), SIDE * SIDE, 4, generator=g) - 0.5
    out[:, :, 0] = 0
    index = (cell[:, 0] * SIDE + cell[:, 1]).long()
    out[torch.arange(len(position)), index] = torch.cat((torch.ones(len(cell), 2), inside), dim=1)
    return out[:, None]


def pairs(rows: int, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """The linear world p' = p + a / 2, seen before and after."""
    g = torch.Generator().manual_seed(seed)
    start, stop = torch.rand(rows, 2, generator=g), torch.rand(rows, 2, generator=g)
    return {"before": picture(start, g), "after": picture(stop, g)}, 2 * (stop - start)[:, None, None]


def call(model: InverseDynamics, given: dict[str, Tensor]) -> Call:
    rows = len(given["after"])
    return Call(model.trunk.empty(rows, 0), given, (), rows)


def build(**changes: object) -> InverseDynamics:
    torch.manual_seed(0)
    config = replace(InverseDynamicsConfig(), **changes)  # type: ignore[arg-type]
    return config.build([ACTION], [BEFORE, AFTER], TransformerConfig(width=32, depth=2, heads=2).build())


def train(model: InverseDynamics, steps: int = 350) -> InverseDynamics:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for step in range(steps):
        given, action = pairs(64, step)
        target = {"action": Target(action, torch.zeros(64, 1, dtype=torch.bool))}
        loss = model.loss(["action"], call(model, given), target, None).terms["action"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def act(model: InverseDynamics, given: dict[str, Tensor]) -> Tensor:
    made = model.generate(["action"], call(model, given), Budget(), RowNoise(range(len(given["after"]))))
    assert made.nfe == {"action": 1}
    return made.values["action"]


def swapped(given: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """The same scenes before other backgrounds."""
    g = torch.Generator().manual_seed(seed)
    out = {}
    for name, values in given.items():
        noise = torch.rand(values.shape, generator=g) - 0.5
        noise[..., 0] = 0
        out[name] = torch.where(values[..., :1] == 1, values, noise)
    return out


VARIANTS: dict[str, dict[str, object]] = {
    "plain": {},
    "masked": {"mask": True},
    "spatial_softmax": {"readout": "spatial_softmax", "grid": (SIDE, SIDE)},
    "residual": {"residual": True},
}


@pytest.mark.learns
@pytest.mark.parametrize("variant", list(VARIANTS))
def test_the_action_between_two_pictures_is_recovered(variant: str) -> None:
    model = train(build(**VARIANTS[variant]))
    given, action = pairs(500, 10_000)
    error = (act(model, given) - action).square().mean().sqrt()
    assert error < 0.2 * action.std()
    moved = (act(model, swapped(given, 1)) - act(model, given)).abs()
    if "mask" in VARIANTS[variant]:
        shown = (given["after"][..., 0] == 1).float()
        assert torch.equal(model.masks_of(given)["after"][0].squeeze(-1), shown)
        assert moved.max() == 0  # not a small change: cut tokens are not read at all
    else:
        assert moved.max() > 1e-2


def test_the_correction_starts_at_zero() -> None:
    model = build(residual=True).eval()
    given, _ = pairs(5, 0)
    assert model.base is not None
    flat = torch.cat([given[name].flatten(1) for name in model.names], dim=1)
    torch.testing.assert_close(act(model, given).flatten(1), model.base(flat).detach())


def test_it_acts_behind_a_predicted_pixel_latent(data: DataSpec, toy: ToyWindows, tmp_path: Path) -> None:
    config = recipe("post_head")
    config = replace(
        config,
        substrates={"video": PixelLatentConfig(PatchPCAConfig(patch=16, features=12))},
        futures={"future": FutureConfig("video", (8,))},
        estimators={
            "predictor": config.estimators["predictor"],
            "policy": InverseDynamicsConfig(
                trunk="policy", mask=True, residual=True, readout="spatial_softmax", grid=(2, 2)
            ),
        },
    )
    torch.manual_seed(0)
    design = Design(config, data)
    assert design.factorisation() == "p(s|c) p(a|s,c)"
    assert design.cells()["substrate"] == "Pixel (latent)"
    assert design.cells()["coupling"] == "Post-prediction head"
    design.fit(toy, seed=0)
    optimizer = torch.optim.Adam(design.parameters(), lr=1e-3)
    totals = []
    for _ in range(4):
        losses = design.loss(toy.windows(np.arange(0, 320, 20), design.training_window))
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        totals.append(losses.total.item())
    assert totals[-1] < totals[0]
    design.eval()
    observation = acting_observation(toy, [40, 90], design.window)
    forecast, _ = design.forecast(observation, design.initial_state(2), Budget(), [1, 2])
    save_pretrained(design, tmp_path / "model")
    again = from_pretrained(tmp_path / "model")
    repeated, _ = again.forecast(observation, again.initial_state(2), Budget(), [1, 2])
    assert torch.equal(forecast.action, repeated.action)


def test_what_does_not_fit_is_refused() -> None:
    trunk = TransformerConfig(width=32, depth=1, heads=2).build()

    def refused(
        config: InverseDynamicsConfig, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], why: str
    ) -> None:
        with pytest.raises(ConfigError, match=why):
            config.build(outputs, given, trunk)

    plain = InverseDynamicsConfig()
    refused(plain, [AFTER], [BEFORE], "generates the action alone, not")
    refused(plain, [ACTION], [], "reads the action off a future or a goal")
    refused(replace(plain, readout="spatial_softmax"), [ACTION], [AFTER], "which grid None does not divide")
    refused(plain, [replace(ACTION, vocabulary=7)], [AFTER], "needs continuous values")
    ids = replace(AFTER, vocabulary=7, features=1)
    refused(replace(plain, residual=True), [ACTION], [ids], "base action .* needs continuous values")
    frames = replace(AFTER, steps=2)
    refused(
        replace(plain, pairs=True), [replace(ACTION, steps=3)], [frames], "a multiple of them in the action"
    )
    refused(
        replace(plain, pairs=True), [replace(ACTION, steps=4)], [BEFORE, frames], "as many steps in every"
    )


@torch.no_grad()
def test_a_pair_of_neighbouring_frames_moves_the_actions_between_them_alone() -> None:
    torch.manual_seed(0)
    frames = [replace(AFTER, name=name, steps=3) for name in ("scene", "gripper")]
    config = InverseDynamicsConfig(pairs=True)
    trunk = TransformerConfig(width=32, depth=3, heads=2).build()
    model = config.build([replace(ACTION, steps=6)], frames, trunk).eval()
    given = {spec.name: torch.randn(1, 3, SIDE * SIDE, 4) for spec in frames}

    def actions(**changes: Tensor) -> Tensor:
        told = Call(trunk.empty(1, 0), {**given, **changes}, (), 1)
        return model.generate(["action"], told, Budget(), RowNoise([1])).values["action"][0]

    plain = actions()
    for step, expected in enumerate(([0, 1, 2, 3], [2, 3, 4, 5], [4, 5])):
        for name, values in given.items():
            other = values.clone()
            other[:, step] += 1
            moved = (actions(**{name: other}) != plain).flatten(1).any(dim=1)
            assert torch.nonzero(moved).flatten().tolist() == expected, (name, step)
