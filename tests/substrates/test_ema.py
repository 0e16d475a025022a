"""EMA targets: exact decay, no gradient, no collapse, repeatable calls, bit-equal resume and saving."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from support import ToyWindows, acting_observation, data_spec, write_dataset
from wamkit.contract.types import Budget
from wamkit.design import Design, DesignConfig, Factor, FutureConfig, from_pretrained
from wamkit.design.checkpoint import save_pretrained
from wamkit.errors import ConfigError
from wamkit.estimators import RegressorConfig
from wamkit.substrates import EmaFeature, EmaFeatureConfig, QuantizedConfig
from wamkit.training import OptimConfig, TrainConfig, train
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe


def jepa(decay: float = 0.9, encoder: str = "images") -> DesignConfig:
    return dataclasses.replace(
        recipe("post_head"),
        width=32,
        substrates={"average": EmaFeatureConfig(encoder, decay)},
        futures={"future": FutureConfig("average", (8,))},
        trunks={"main": TransformerConfig(width=32, depth=1, heads=2)},
        estimators={"main": RegressorConfig(loss="smooth_l1")},
        factors=(Factor(("future",)), Factor(("action",))),
    )


def built(config: DesignConfig) -> Design:
    torch.manual_seed(0)
    return Design(config, data_spec())


def average(design: Design) -> EmaFeature:
    part = design.substrates["average"]
    assert isinstance(part, EmaFeature)
    return part


def steps(design: Design, count: int, lr: float = 3e-3) -> None:
    windows, rng = ToyWindows(), np.random.default_rng(0)
    optimizer = OptimConfig().build(design)
    for group in optimizer.param_groups:
        group["lr"] = lr
    design.train()
    for _ in range(count):
        batch = windows.windows(rng.integers(20, 380, 24), design.training_window)
        optimizer.zero_grad()
        design.loss(batch).total.backward()
        optimizer.step()
        design.after_step()


def test_the_average_follows_the_stated_decay_exactly() -> None:
    design = built(jepa(decay=0.75))
    online = list(design.encoders["images"].parameters())
    expected = [p.detach().clone() for p in online]
    found = list(average(design).target.parameters())
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))  # starts as a copy
    for _ in range(4):
        steps(design, 1)
        expected = [0.75 * a + 0.25 * p.detach() for a, p in zip(expected, online, strict=True)]
    for a, b, p in zip(found, expected, online, strict=True):
        torch.testing.assert_close(a, b, atol=1e-7, rtol=1e-6)
        assert not torch.equal(a, p)
    frozen = built(jepa(decay=1.0))
    before = [p.clone() for p in average(frozen).target.parameters()]
    steps(frozen, 2)
    assert all(torch.equal(a, b) for a, b in zip(before, average(frozen).target.parameters(), strict=True))


def test_no_gradient_reaches_the_target_and_one_reaches_the_encoder() -> None:
    design = built(jepa())
    batch = ToyWindows().windows(np.arange(40, 56), design.training_window)
    design.loss(batch).terms["future"].backward()
    assert all(p.grad is None and not p.requires_grad for p in average(design).target.parameters())
    assert any(p.grad is not None and p.grad.any() for p in design.encoders["images"].parameters())
    assert not set(map(id, average(design).target.parameters())) & set(map(id, design.encoders.parameters()))


def test_targets_are_repeatable_and_step_by_step() -> None:
    design = built(jepa())
    steps(design, 1)
    design.train()
    assert design.encoders["images"].training
    assert not average(design).target.training  # the trained encoder augments, the average must not
    design.eval()
    future = ToyWindows().windows(np.arange(40, 44), design.training_window).future
    assert future is not None
    first = average(design).encode(future)
    assert torch.equal(first, average(design).encode(future))
    assert first.shape[2:] == average(design).mean.shape
    both = (
        ToyWindows()
        .windows(np.arange(40, 44), dataclasses.replace(design.training_window, future=(4, 8)))
        .future
    )
    assert both is not None
    torch.testing.assert_close(average(design).encode(both)[:, 1:], first, atol=1e-4, rtol=1e-4)


@pytest.mark.learns
def test_the_embedding_does_not_collapse() -> None:
    design = built(jepa(decay=0.95))
    batch = ToyWindows().windows(np.arange(20, 360, 6), design.training_window)
    assert batch.future is not None
    start = average(design).tokens(batch.future).std(dim=0).mean()
    steps(design, 80, 1e-3)
    steps(design, 40, 1e-5)  # as a run ends; the moving moments catch up with the average
    spread = average(design).tokens(batch.future).std(dim=0).mean()
    assert spread > max(0.1, 2 * start), (
        start,
        spread,
    )  # before any normalisation; a collapsed encoder has 0
    values = average(design.eval()).encode(batch.future)
    per_token = values.var(dim=0).mean(dim=-1).sqrt()
    assert 0.5 < per_token.min() <= per_token.max() < 2, per_token


def test_in_training_every_token_is_standardised_whatever_its_scale() -> None:
    design = built(jepa()).train()
    batch = ToyWindows().windows(np.arange(20, 360, 6), design.training_window)
    assert batch.future is not None
    first = average(design).encode(batch.future)
    raw = average(design).tokens(batch.future)
    mean, variance = raw.mean(dim=(0, 1)), raw.var(dim=(0, 1), correction=0).mean(dim=-1, keepdim=True)
    torch.testing.assert_close(first, (raw - mean) / (variance + 1e-8).sqrt(), atol=2e-3, rtol=0)
    torch.testing.assert_close(average(design).mean, mean)  # the first batch sets the moments
    torch.testing.assert_close(average(design.eval()).encode(batch.future), first, atol=2e-3, rtol=0)


def test_two_calls_are_equal_and_saving_keeps_the_average(tmp_path: Path) -> None:
    design = built(jepa())
    steps(design, 3)
    design.eval()
    save_pretrained(design, tmp_path / "model")
    again = from_pretrained(tmp_path / "model")
    windows = ToyWindows()
    seen = acting_observation(windows, [50, 90], design.window)
    made = [d.forecast(seen, d.initial_state(2), Budget(), [3, 4])[0] for d in (design, design, again)]
    for other in made[1:]:
        assert torch.equal(made[0].action, other.action)
        assert torch.equal(made[0].future["future"], other.future["future"])
    future = windows.windows(np.array([50]), design.training_window).future
    assert future is not None
    assert torch.equal(average(design).encode(future), average(again).encode(future))


def test_a_resumed_run_is_bit_equal(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data")
    base = TrainConfig(
        tmp_path / "data",
        tmp_path / "a",
        jepa(),
        OptimConfig(warmup=2),
        steps=6,
        batch_size=8,
        checkpoint_every=3,
    )
    train(base, progress=False)

    def stop(step: int, *_: object) -> None:
        if step == 4:
            raise KeyboardInterrupt

    cut = dataclasses.replace(base, out=tmp_path / "b")
    with pytest.raises(KeyboardInterrupt):
        train(cut, stop, progress=False)
    train(cut, progress=False)
    whole, resumed = (
        from_pretrained(tmp_path / run / "checkpoints/step-00000006").state_dict() for run in ("a", "b")
    )
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert any("average.target" in name for name in whole)


def test_wrong_names_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown encoder 'imags'.*images"):
        built(jepa(encoder="imags"))
    with pytest.raises(ConfigError, match="values move while the design trains"):
        QuantizedConfig(EmaFeatureConfig()).build(data_spec())
    with pytest.raises(
        ConfigError, match=r"EmaFeatureConfig\.decay: must be at least 0 and at most 1, got 1\.5"
    ):
        built(jepa(decay=1.5))
