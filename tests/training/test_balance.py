"""Balance of losses: the schedule is followed, the logged pulls are the gradients, and nothing else changes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from support import write_dataset
from wamkit.contract.types import Losses
from wamkit.design import Design
from wamkit.errors import ConfigError
from wamkit.training import OptimConfig, Ramp, TrainConfig, train
from wamkit.training.balance import gradient_norms, weights_at
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe

STEPS = 8


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    root = tmp_path_factory.mktemp("balance")
    write_dataset(root / "data")
    design = dataclasses.replace(
        recipe("joint"), width=32, trunks={"main": TransformerConfig(width=32, depth=1, heads=2)}
    )
    return TrainConfig(
        root / "data", root / "run", design, OptimConfig(warmup=2), steps=STEPS, batch_size=8, log_every=2
    )


def run(settings: TrainConfig, out: str, **changes: object) -> tuple[list[dict[str, float]], list[Losses]]:
    """The log, and the losses of every step."""
    losses: list[Losses] = []

    def watch(step: int, design: Design, found: Losses) -> None:
        losses.append(found)

    config = dataclasses.replace(settings, out=settings.out.with_name(out), **changes)  # type: ignore[arg-type]
    train(config, watch, progress=False)
    lines = (config.out / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines], losses


def test_the_schedule_is_followed(settings: TrainConfig) -> None:
    base = recipe("joint").loss_weights["future"]
    ramp = Ramp(first=2.0, last=0.0, begin=2, end=6)
    _, losses = run(settings, "ramped", ramps={"future": ramp})
    weights = [base * f for f in (2, 2, 2, 1.5, 1, 0.5, 0, 0)]
    assert [weights_at(k, {"future": ramp}, {"future": base})["future"] for k in range(STEPS)] == weights
    for weight, found in zip(weights, losses, strict=True):
        total = weight * found.terms["future"] + found.terms["action"]
        assert torch.isclose(found.total, total)


def test_pulls_are_logged_and_change_nothing(settings: TrainConfig) -> None:
    plain, _ = run(settings, "plain")
    logged, _ = run(settings, "logged", gradient_norms=True)
    assert [{k: v for k, v in line.items() if not k.startswith("grad.")} for line in logged] == plain
    assert all(line["grad.future"] > 0 and line["grad.action"] > 0 for line in logged)
    assert not any(key.startswith("grad.") for line in plain for key in line)


def test_the_norm_is_that_of_the_gradient() -> None:
    weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    other = torch.nn.Parameter(torch.tensor(1.0))
    terms = {"a": (weight**2).sum() / 2, "b": other * 7, "c": torch.tensor(1.0)}
    norms = gradient_norms(Losses(terms["a"] + terms["b"], terms), [weight])
    assert norms == {"a": pytest.approx(5.0), "b": 0.0}


@given(st.floats(0, 5), st.floats(0, 5), st.integers(0, 50), st.integers(0, 50), st.integers(0, 200))
def test_a_ramp_stays_between_its_ends(first: float, last: float, begin: int, length: int, step: int) -> None:
    ramp = Ramp(first, last, begin, begin + length)
    assert min(first, last) - 1e-9 <= ramp.at(step) <= max(first, last) + 1e-9
    assert ramp.at(begin + length) == last
    assert length == 0 or ramp.at(begin) == first


def test_errors_come_before_the_first_step(settings: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'future'"):
        train(dataclasses.replace(settings, out=tmp_path / "x", ramps={"futur": Ramp()}), progress=False)
    with pytest.raises(ConfigError, match="the end must not lie before the beginning"):
        Ramp(begin=5, end=4)
