"""Columns that only pad: no value in them reaches a loss, a gradient, a sample or a statistic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wamkit.actions import (
    BinsConfig,
    ChunkConfig,
    ColumnsConfig,
    FastConfig,
    MovementPrimitiveConfig,
    PaintedConfig,
)
from wamkit.contract.calls import ByColumn
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import ActionConfig, EstimatorConfig, TrunkConfig
from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.contract.streams import RowNoise, feature_mean, masked_mean
from wamkit.contract.types import Batch, Budget, Observation, WindowSpec
from wamkit.design import Design
from wamkit.design.config import DesignConfig, FutureConfig
from wamkit.design.graph import Factor
from wamkit.encoders import StateConfig
from wamkit.estimators import (
    AutoregressorConfig,
    ContinuousAutoregressorConfig,
    DenoiserConfig,
    GatedConfig,
    InverseDynamicsConfig,
    JacobianDynamicsConfig,
    NextScaleConfig,
    PacedConfig,
    ProposerConfig,
    RegressorConfig,
    UnmaskerConfig,
)
from wamkit.nn.transforms import FLOOR
from wamkit.substrates import ProprioceptionConfig
from wamkit.trunks import TransformerConfig

WIDE, OWN, HORIZON, ROWS = 5, 3, 8, 6


def spec_of(width: int) -> DataSpec:
    names = tuple(f"j{i}" for i in range(width))
    ones = np.ones(width)
    stats = {
        "mean": 0.1 * ones,
        "std": 0.5 * ones,
        "min": -ones,
        "max": ones,
        "q01": -ones,
        "q99": ones,
        FLOOR: 0.1 * ones,
    }
    observation = ObservationSpec({}, names, 10.0)
    action = ActionSpec(names, (-1.0,) * width, (1.0,) * width, 10.0, mode="absolute")
    return DataSpec(observation, action, {"action": stats, "observation.state": stats})


class Robots:
    """Windows of robots of three columns in a width of five, and of others that have all five."""

    num_frames = 64

    def __init__(self, width: int = WIDE, filler: float = 0.0, whole: bool = True) -> None:
        rng = np.random.default_rng(0)
        path = np.cumsum(rng.normal(0, 0.1, (self.num_frames + 40, WIDE)), axis=0)
        self.path = torch.from_numpy(np.sin(path)).float()[:, :width]
        self.filler, self.whole, self.width = filler, whole, width

    def narrow(self, index: np.ndarray) -> Tensor:
        rows = torch.from_numpy(index % 2 == 0)
        return rows if self.whole else torch.ones_like(rows)

    def _values(self, index: np.ndarray, offsets: Any) -> Tensor:
        values = self.path[torch.from_numpy(index[:, None] + np.array(offsets) + 8)].clone()
        values[self.narrow(index), :, OWN:] = self.filler
        return values

    def _observe(self, index: np.ndarray, offsets: Any) -> Observation:
        columns = torch.ones(len(index), self.width, dtype=torch.bool)
        columns[self.narrow(index), OWN:] = False
        known = None if self.width == OWN else columns
        pad = torch.zeros(len(index), len(offsets), dtype=torch.bool)
        state = self._values(index, offsets)
        return Observation({}, state, ("go",) * len(index), pad, state_columns=known, action_columns=known)

    def windows(self, index: np.ndarray, spec: WindowSpec) -> Batch:
        index = np.asarray(index)
        action = self._values(index, range(1 - spec.past_actions, spec.horizon + 1))
        pad = torch.zeros(action.shape[:2], dtype=torch.bool)
        pad[-1, -3:] = True
        future = self._observe(index, spec.future) if spec.future else None
        return Batch(self._observe(index, spec.observation), action, pad, spec.past_actions, future)


TRUNKS: dict[str, TrunkConfig] = {"main": TransformerConfig(width=16, depth=1, heads=2)}
NAMES = tuple(f"j{i}" for i in range(WIDE))
ACTIONS: dict[str, ActionConfig] = {
    "chunk": ChunkConfig(),
    "chunk_of_two": ChunkConfig(ticks_per_token=2),
    "bins": BinsConfig(bins=16, ticks_per_token=4),
    "fast": FastConfig(scale=2.0, vocabulary=64, tokens=40),
    "movement_primitive": MovementPrimitiveConfig(weights=3),
    "painted": PaintedConfig(grid=6, channels=2, ticks_per_token=4),
    "columns": ColumnsConfig(entries=NAMES),
}
IDS = ("bins", "fast")
JOINT = (Factor(("action", "body"), (), "policy"),)
APART = (Factor(("body",), (), "world"), Factor(("action",), ("body",), "policy"))
ALONE = (Factor(("body",), (), "world"), Factor(("action",), (), "policy"))
CONTINUOUS: dict[str, tuple[EstimatorConfig, tuple[Factor, ...]]] = {
    "denoiser": (DenoiserConfig(steps=2), JOINT),
    "data_denoiser": (DenoiserConfig(steps=2, prediction="data", levels="shared"), JOINT),
    "equilibrium": (DenoiserConfig(steps=3, prediction="equilibrium"), JOINT),
    "regressor": (RegressorConfig(), JOINT),
    "cosine": (RegressorConfig(loss="cosine"), JOINT),
    "continuous_autoregressor": (ContinuousAutoregressorConfig(steps=2, draws=1, hidden=8), ALONE),
    "next_scale": (NextScaleConfig(steps=2, draws=1, hidden=8), JOINT),
    "proposer": (ProposerConfig(), ALONE),
    "inverse_dynamics": (InverseDynamicsConfig(residual=True), APART),
    "jacobian_dynamics": (JacobianDynamicsConfig(), APART),
    "gated": (GatedConfig(experts={"a": RegressorConfig(), "b": DenoiserConfig(steps=1)}), ALONE),
    "paced": (PacedConfig(inner=DenoiserConfig(), counts=(1, 2)), ALONE),
}
DISCRETE: dict[str, tuple[EstimatorConfig, tuple[Factor, ...]]] = {
    "autoregressor": (AutoregressorConfig(lookahead=2), ALONE),
    "unmasker": (UnmaskerConfig(steps=3), ALONE),
    "next_scale": (NextScaleConfig(), ALONE),
}
PAIRS = [
    (action, estimator)
    for action in ACTIONS
    for estimator in (DISCRETE if action in IDS else CONTINUOUS)
    if (action, estimator) != ("painted", "jacobian_dynamics")  # inverts matrices of all pixels
]  # fmt: skip


def build(action: str, estimator: str, width: int = WIDE) -> Design:
    part, factors = (DISCRETE if action in IDS else CONTINUOUS)[estimator]
    representation = ACTIONS[action]
    config = DesignConfig(
        horizon=HORIZON,
        stride=HORIZON,
        width=16,
        encoders={"state": StateConfig()},
        substrates={"body": ProprioceptionConfig()},
        futures={"body": FutureConfig("body", (4, 8))},
        action=representation,
        trunks=TRUNKS,
        estimators={"policy": part, **({} if factors is JOINT else {"world": RegressorConfig()})},
        factors=factors,
    )
    torch.manual_seed(0)
    design = Design(config, spec_of(width))
    for parameter in design.parameters():  # no zeros and no dead branches
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    design.fit(Robots(width), 0)
    return design


def learned(design: Design, windows: Robots) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Loss terms and gradients of one batch."""
    batch = windows.windows(np.arange(ROWS), design.training_window)
    design.zero_grad()
    torch.manual_seed(1)
    losses = design.loss(batch)
    losses.total.backward()
    grads = {n: p.grad.clone() for n, p in design.named_parameters() if p.grad is not None}
    return {n: t.detach() for n, t in losses.terms.items()}, grads


@pytest.mark.parametrize(("action", "estimator"), PAIRS)
def test_what_stands_in_padded_columns_changes_no_loss_and_no_bit_of_a_gradient(
    action: str, estimator: str
) -> None:
    design = build(action, estimator)
    terms, grads = learned(design, Robots())
    again, others = learned(design, Robots(filler=0.7))
    assert grads
    assert all(torch.equal(terms[name], again[name]) for name in terms)
    assert grads.keys() == others.keys()
    assert all(torch.equal(grads[name], others[name]) for name in grads)
    # The columns of the robots that have them do count.
    whole, _ = learned(design, Robots(whole=False))
    assert any(not torch.equal(terms[name], whole[name]) for name in terms)


@pytest.mark.parametrize("estimator", [*CONTINUOUS])
@pytest.mark.parametrize("action", ["chunk", "movement_primitive", "columns"])
def test_predictions_of_padded_columns_have_no_gradient(action: str, estimator: str) -> None:
    design = build(action, estimator)
    _, grads = learned(design, Robots(whole=False))
    columns = torch.arange(WIDE)[None] < OWN
    part = design.action
    assert isinstance(part, ByColumn)
    real = part.real(columns)[0, 0, 0]
    heads = {
        n: g for n, g in grads.items() if n.startswith("estimators.policy") and n.endswith("outward.bias")
    }
    heads |= {n: g for n, g in grads.items() if "heads" in n and n.endswith("outward.1.bias")}
    found = [g for g in heads.values() if len(g) == len(real)]
    if estimator == "jacobian_dynamics":
        (rows,) = (g for n, g in grads.items() if "rows" in n and n.endswith("weight"))
        by_entry = rows.unflatten(0, (-1, design.streams["action"].length * len(real) + 1))[:, :-1]
        found = [by_entry.unflatten(1, (-1, len(real))).abs().sum(dim=(0, 1, 3))]
    assert found
    for grad in found:
        assert not grad[~real].any()
        assert grad[real].any()


@pytest.mark.parametrize("estimator", [*DISCRETE])
def test_ids_of_padded_columns_are_not_predicted(estimator: str) -> None:
    design = build("bins", estimator)
    head = design.estimators["policy"].outputs["action"].outward  # type: ignore[union-attr, index]
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
        head.bias[0] = -1e4
    windows = Robots(whole=False)
    windows.path = windows.path.abs()  # no real id is 0, the id of a padded column
    terms, _ = learned(design, windows)
    assert terms["action"] == pytest.approx(np.log(15), rel=1e-5)


def fixed_noise(like: Tensor) -> Tensor:
    """Numbers that depend on row and feature, not on how many features there are."""
    feature = torch.arange(like.shape[-1], dtype=torch.float32)
    row = torch.arange(like.shape[:-1].numel(), dtype=torch.float32).view(*like.shape[:-1], 1)
    return torch.sin(row * 1.7 + feature * 2.3)


def cut(large: Tensor, small: Tensor) -> Tensor:
    """The first entries of ``large`` along every axis."""
    return large[tuple(slice(size) for size in small.shape)]


@pytest.mark.parametrize("estimator", sorted({*CONTINUOUS} - {"gated", "paced", "jacobian_dynamics"}))
def test_the_loss_of_a_robot_is_that_of_the_robot_without_padding(
    estimator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    padded, plain = build("chunk", estimator), build("chunk", estimator, OWN)
    wide = padded.state_dict()
    plain.load_state_dict({name: cut(wide[name], value) for name, value in plain.state_dict().items()})
    if estimator == "inverse_dynamics":  # its base action joins steps and features in one axis
        base, own = (d.estimators["policy"].base for d in (padded, plain))
        weight = base.weight.data.view(HORIZON, WIDE, 2, WIDE)[:, :OWN, :, :OWN]  # type: ignore[union-attr, operator]
        own.weight.data = weight.reshape(HORIZON * OWN, 2 * OWN)  # type: ignore[union-attr]
        own.bias.data = base.bias.data.view(HORIZON, WIDE)[:, :OWN].reshape(-1)  # type: ignore[union-attr, operator]
    monkeypatch.setattr(torch, "randn_like", fixed_noise)
    ours, theirs = learned(padded, Robots(whole=False))[0], learned(plain, Robots(OWN))[0]
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("estimator", [*CONTINUOUS])
def test_noise_of_padded_columns_reaches_no_other(estimator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    design = build("chunk", estimator).eval()
    seen = Robots(whole=False).windows(np.arange(3), design.window).observation
    normal: Callable[..., Tensor] = RowNoise.normal

    def other(noise: RowNoise, *shape: int) -> Tensor:
        drawn = normal(noise, *shape)
        if shape[-1] == WIDE:
            drawn[..., OWN:] = 9.0
        return drawn

    first = design.sample(seen, ["action"], seeds=[1, 2, 3]).values["action"]
    monkeypatch.setattr(RowNoise, "normal", other)
    second = design.sample(seen, ["action"], seeds=[1, 2, 3]).values["action"]
    assert torch.equal(first, second)
    assert not first[..., OWN:].any()
    assert first[..., :OWN].any()


@pytest.mark.parametrize("estimator", [*DISCRETE])
def test_ids_of_padded_columns_are_sampled_as_0(estimator: str) -> None:
    design = build("bins", estimator).eval()
    seen = Robots(whole=False).windows(np.arange(3), design.window).observation
    ids = design.sample(seen, ["action"], seeds=[1, 2, 3], budget=Budget()).values["action"]
    assert not ids[..., OWN:].any()
    assert ids[..., :OWN].any()


@pytest.mark.parametrize(
    "action", ["chunk", "chunk_of_two", "bins", "movement_primitive", "painted", "columns"]
)
def test_a_representation_knows_which_values_tell_of_a_column(action: str) -> None:
    design = build(action, "autoregressor" if action in IDS else "regressor")
    part = design.action
    assert isinstance(part, ByColumn)
    chunk = Robots(whole=False).windows(np.arange(4), design.training_window).action
    chunk[..., OWN:] = 0.3
    for column in range(WIDE):
        moved = chunk.clone()
        moved[..., column] = -0.6
        changed = part.encode(chunk) != part.encode(moved)
        real = part.real((torch.arange(WIDE) == column)[None].expand(4, -1))
        assert changed.any()
        assert not (changed & ~real).any()


def test_a_padded_column_of_the_state_adds_nothing_to_the_context() -> None:
    design = build("chunk", "regressor").eval()
    plain = Robots(whole=False).windows(np.arange(3), design.window).observation
    zero = design.encode_context(plain)["main"].values[-1]
    other = design.encode_context(replace(plain, state=plain.state + 0.4 * (torch.arange(WIDE) >= OWN)))
    assert torch.equal(zero, other["main"].values[-1])
    real = replace(
        plain, state_columns=None, action_columns=None
    )  # a real zero is not the mean, which is 0.1
    assert not torch.equal(zero, design.encode_context(real)["main"].values[-1])


def test_means_over_real_features_weigh_every_step_the_same() -> None:
    error = torch.tensor([[[[1.0, 2.0, 9.0]], [[3.0, 5.0, 9.0]]], [[[6.0, 9.0, 9.0]], [[9.0, 9.0, 9.0]]]])
    real = torch.tensor([[1, 1, 0], [1, 0, 0]]).bool()[:, None, None].expand(-1, 2, -1, -1)
    pad = torch.tensor([[False, False], [False, True]])
    assert feature_mean(error, real).tolist() == [[1.5, 4.0], [6.0, 9.0]]
    assert masked_mean(error, pad, real) == pytest.approx((1.5 + 4 + 6) / 3)
    none = real & torch.tensor([True, False])[:, None, None, None]
    assert masked_mean(error, pad, none) == pytest.approx((1.5 + 4) / 2)
