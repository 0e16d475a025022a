"""A training that cannot go on stops with step, stream and batch named; one that learns little says so."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from support import data_spec, write_dataset
from wamkit.actions import BinsConfig, ChunkConfig, FastConfig
from wamkit.contract.protocols import ActionConfig
from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec
from wamkit.contract.types import Losses
from wamkit.data import Dataset, DatasetWriter, Episode
from wamkit.data.loader import positions
from wamkit.data.spec import data_spec as spec_of
from wamkit.data.stats import vector_stats
from wamkit.design import Design, DesignConfig, Factor, FutureConfig
from wamkit.encoders import StateConfig
from wamkit.errors import ConfigError, TrainingError
from wamkit.estimators import AutoregressorConfig, RegressorConfig
from wamkit.nn.transforms import FLOOR, REACH, Normalizer, Standardizer, least_scale
from wamkit.substrates import PatchPCAConfig, PixelLatentConfig
from wamkit.training import OptimConfig, Ramp, TrainConfig, train
from wamkit.training.resume import latest_checkpoint
from wamkit.training.start import TrainingRun
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe


def tiny(**changes: Any) -> DesignConfig:
    config = recipe("regression")
    trunks = {"main": TransformerConfig(width=16, depth=1, heads=2)}
    config = replace(config, width=16, trunks=trunks, encoders={"state": StateConfig()})
    return replace(config, **changes)


def config(root: Path, out: Path, **changes: Any) -> TrainConfig:
    base = TrainConfig(
        dataset=root / "data", out=out, design=tiny(), optim=OptimConfig(warmup=1, ema=0.5), steps=6,
        batch_size=4, checkpoint_every=2, log_every=1,
    )  # fmt: skip
    return replace(base, **changes)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("watch")
    write_dataset(folder / "data")
    return folder


def poison(design: Design, value: float) -> None:
    with torch.no_grad():
        next(p for p in design.parameters() if p.grad is not None and p.grad.any()).view(-1)[0] = value


# ------------------------------------------------------------------------------------------------- not a number


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("step", [1, 3])
def test_a_loss_that_is_not_finite_stops_the_run(step: int, value: float, root: Path, tmp_path: Path) -> None:
    def hook(now: int, design: Design, losses: Losses) -> None:
        if now == step:
            poison(design, value)

    with pytest.raises(TrainingError) as raised:
        train(config(root, tmp_path / "run"), hook=hook, progress=False)
    message = str(raised.value)
    assert f"step {step + 1}: the loss of stream 'action' is nan" in message
    dataset = Dataset(root / "data")
    for frame in positions(dataset.num_frames, 4, 0, step):
        episode = next(e for e in dataset.episodes if e.start <= frame < e.stop)
        assert f"episode {episode.index} frame {frame - episode.start}" in message
    assert not (tmp_path / "run/model").exists()
    kept = latest_checkpoint(tmp_path / "run")
    assert (kept is None) == (step == 1)
    if kept is not None:
        assert kept.name == "step-00000002"
        assert str(kept) in message
        # The way out: another `out`, started from the checkpoint that was kept.
        further = config(root, tmp_path / "next", pretrained=str(kept), steps=2)
        assert (train(further, progress=False) / "model.safetensors").is_file()
        # And the same command goes on from the last good checkpoint when the fault is gone.
        train(config(root, tmp_path / "run"), progress=False)
        train(config(root, tmp_path / "never"), progress=False)
        file = "model/model.safetensors"
        assert (tmp_path / "run" / file).read_bytes() == (tmp_path / "never" / file).read_bytes()


@pytest.mark.parametrize(
    ("factor", "message"), [(float("nan"), "is not finite"), (1e30, "the norm of the gradient is inf")]
)
def test_a_gradient_that_is_not_finite_stops_the_run(
    factor: float, message: str, root: Path, tmp_path: Path
) -> None:
    def hook(now: int, design: Design, losses: Losses) -> None:
        if now == 2:
            part = design.encoders["state"]
            parameter = next(p for p in part.parameters() if p.grad is not None)
            parameter.register_hook(lambda gradient: torch.full_like(gradient, factor))

    with pytest.raises(TrainingError, match=message) as raised:
        train(config(root, tmp_path / "run"), hook=hook, progress=False)
    assert "step 3: " in str(raised.value)
    assert re.search(r"'encoders\.state\.[a-z.0-9]+'", str(raised.value))
    assert latest_checkpoint(tmp_path / "run") == tmp_path / "run/checkpoints/step-00000002"


def test_weights_that_are_not_finite_are_never_saved(root: Path, tmp_path: Path) -> None:
    def hook(now: int, design: Design, losses: Losses) -> None:
        if now == 4:  # a checkpoint is due right after this step
            poison(design, float("nan"))

    with pytest.raises(TrainingError, match=r"step 4: weights: .* not finite"):
        train(config(root, tmp_path / "run"), hook=hook, progress=False)
    assert latest_checkpoint(tmp_path / "run") == tmp_path / "run/checkpoints/step-00000002"


def test_a_learning_rate_that_explodes_stops(root: Path, tmp_path: Path) -> None:
    wild = OptimConfig(lr=1e30, warmup=1, clip=1e30)
    with pytest.raises(TrainingError, match=r"step \d+: .*Lower `optim\.lr` \(1e\+30\)"):
        train(config(root, tmp_path / "run", optim=wild, steps=20), progress=False)
    assert not (tmp_path / "run/model").exists()


# ------------------------------------------------------------------------------------------------ nothing learns


def test_a_gradient_of_zero_from_the_first_step_on_is_said_and_then_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loss = TrainingRun.loss

    def zero(run: TrainingRun, *args: Any) -> Losses:
        losses = loss(run, *args)
        return Losses(losses.total * 0, losses.terms)

    monkeypatch.setattr(TrainingRun, "loss", zero)
    frozen = config(root, tmp_path / "run", steps=300, checkpoint_every=0, log_every=100)
    with pytest.raises(TrainingError, match="the gradient was exactly 0 in the first 200 steps"):
        train(frozen, progress=False)
    assert "the gradient was exactly 0 in the first 20 steps" in caplog.text
    assert not (tmp_path / "run/model").exists()


def test_weights_that_do_not_move_are_refused(root: Path, tmp_path: Path) -> None:
    still = OptimConfig(lr=1e-40, warmup=1, weight_decay=0.0)
    with pytest.raises(TrainingError, match=r"no weight has changed in the first 6 steps .*1e-40"):
        train(config(root, tmp_path / "run", optim=still, checkpoint_every=0), progress=False)


def test_weights_of_zero_for_every_loss_are_refused_before_the_first_step(root: Path, tmp_path: Path) -> None:
    off = config(root, tmp_path / "run", design=tiny(loss_weights={"action": 0.0}))
    with pytest.raises(ConfigError, match="every loss has the weight 0"):
        train(off, progress=False)
    with pytest.raises(ConfigError, match="every loss has the weight 0"):
        train(config(root, tmp_path / "run2", ramps={"action": Ramp(0.0, 0.0)}), progress=False)
    train(replace(off, out=tmp_path / "run3", design=tiny(loss_weights={"action": 0.1})), progress=False)


def test_a_loss_of_exactly_zero_is_said(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loss = TrainingRun.loss

    def more(run: TrainingRun, *args: Any) -> Losses:
        losses = loss(run, *args)
        return Losses(losses.total, {**losses.terms, "ghost": losses.total * 0, "shown": torch.ones(())})

    monkeypatch.setattr(TrainingRun, "loss", more)
    train(config(root, tmp_path / "run"), progress=False)
    assert "loss of stream 'ghost' has been exactly 0 in every logged step up to step 6" in caplog.text
    assert "loss of stream 'shown' depends on nothing that learns" in caplog.text
    assert "exactly 0" not in caplog.text.replace("'ghost' has been exactly 0", "")


def test_schedules_that_leave_little_are_said(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(config(root, tmp_path / "quiet"), progress=False)
    assert not caplog.records
    optim = OptimConfig(warmup=100, ema=0.999)
    train(config(root, tmp_path / "loud", optim=optim, batch_size=200), progress=False)
    assert "optim.warmup 100 is not shorter than the run of 6 steps" in caplog.text
    assert "optim.ema 0.999: after 6 steps" in caplog.text
    assert "batch_size 200 is more than the 93 frames" in caplog.text


# --------------------------------------------------------------------------------------- targets to learn from


def record(root: Path, lengths: tuple[int, ...], action: Any = None) -> None:
    seen = ObservationSpec({"scene": CameraSpec(32, 32)}, ("s0", "s1"), 10.0)
    acts = ActionSpec(("x", "valve"), (-1.0, -1.0), (1.0, 1.0), 10.0)
    rng = np.random.default_rng(0)
    with DatasetWriter(root / "data", seen, acts) as writer:
        for number, ticks in enumerate(lengths):
            state, moves = rng.uniform(-1, 1, (2, ticks, 2)).astype(np.float32)
            images = {"scene": rng.integers(0, 256, (ticks, 32, 32, 3), dtype=np.uint8)}
            writer.add(Episode(images, state, moves if action is None else action(number, moves), "look"))


def design_for(action: ActionConfig, horizon: int) -> DesignConfig:
    estimator = RegressorConfig() if isinstance(action, ChunkConfig) else AutoregressorConfig()
    base = tiny()
    estimators = dict.fromkeys(base.estimators, estimator)
    return replace(
        base,
        action=action,
        horizon=horizon,
        stride=1,
        estimators=estimators,
        controller=replace(base.controller, execute=1),
    )


@pytest.mark.parametrize(
    ("action", "horizon", "longest"),
    [
        (ChunkConfig(ticks_per_token=4), 8, 3),
        (ChunkConfig(ticks_per_token=8), 8, 7),
        (BinsConfig(bins=16, ticks_per_token=4), 12, 3),
        (FastConfig(), 6, 5),
    ],
)
def test_no_action_to_learn_from_is_refused_and_the_way_out_leads_out(
    action: ActionConfig, horizon: int, longest: int, tmp_path: Path
) -> None:
    record(tmp_path, (longest, longest - 1))
    run = config(tmp_path, tmp_path / "run", design=design_for(action, horizon), steps=2)
    with pytest.raises(ConfigError, match="stream 'action': no window holds a target") as raised:
        train(run, progress=False)
    assert f"have {longest - 1} to {longest} ticks" in str(raised.value)
    option, value = re.search(r"Set `design\.([a-z_.]+)` to (\d+)", str(raised.value)).groups()  # type: ignore[union-attr]
    if option == "horizon":
        changed = design_for(action, int(value))
    else:
        changed = design_for(replace(action, ticks_per_token=int(value)), horizon)  # type: ignore[call-arg]
    train(replace(run, design=changed), progress=False)


def test_no_future_to_learn_from_is_refused_and_the_way_out_leads_out(tmp_path: Path) -> None:
    record(tmp_path, (8, 8, 5))

    def ahead(*offsets: int) -> TrainConfig:
        base = tiny()
        futures = {"future": FutureConfig("video", offsets)}
        name = next(iter(base.estimators))
        factors = (Factor(generates=("future",), estimator=name), *base.factors)
        video = {"video": PixelLatentConfig(PatchPCAConfig(patch=16, features=8))}
        design = replace(
            base, substrates=video, futures=futures, factors=factors, horizon=4, stride=1,
            controller=replace(base.controller, execute=1),
        )  # fmt: skip
        return config(tmp_path, tmp_path / f"run{offsets[-1]}", design=design, steps=2)

    with pytest.raises(
        ConfigError, match=r"stream 'future': .*Set `design\.futures\.future\.offsets` to at most 7"
    ):
        train(ahead(8), progress=False)
    train(ahead(7), progress=False)


@pytest.mark.parametrize("lengths", [(1,), (2, 1), (30,)])
def test_the_smallest_datasets_train_or_are_refused(lengths: tuple[int, ...], tmp_path: Path) -> None:
    record(tmp_path, lengths)
    design = design_for(ChunkConfig(), 1)
    model = train(config(tmp_path, tmp_path / "run", design=design, steps=2), progress=False)
    assert (model / "model.safetensors").is_file()


def test_few_targets_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record(tmp_path, (9, 8, 8))
    chunk = design_for(ChunkConfig(ticks_per_token=8), 8)
    train(config(tmp_path, tmp_path / "a", design=chunk, steps=2), progress=False)
    assert "stream 'action': only 16.0 %" not in caplog.text
    caplog.clear()
    record_few = design_for(ChunkConfig(ticks_per_token=9), 9)
    train(config(tmp_path, tmp_path / "b", design=record_few, steps=2), progress=False)
    assert "stream 'action': only 4.0 % of its targets" in caplog.text
    caplog.clear()
    long = design_for(ChunkConfig(ticks_per_token=4), 16)
    train(config(tmp_path, tmp_path / "c", design=long, steps=2), progress=False)
    assert "stream 'action': its step 2 is never learned" in caplog.text


# ------------------------------------------------------------------------------------------------ normalisation

ROWS = hnp.arrays(
    np.float32, st.tuples(st.integers(5, 60), st.integers(1, 3)), elements=st.floats(-1e3, 1e3, width=32)
)


@settings(deadline=None)
@given(ROWS)
def test_values_normalised_by_quantiles_stay_within_reach_and_come_back(values: np.ndarray) -> None:
    stats = dataclasses.asdict(vector_stats(values))
    stats[FLOOR] = least_scale(stats["min"], stats["max"])
    normalizer = Normalizer({"action": stats}, "action", "quantile")
    normal = normalizer(torch.from_numpy(values))
    small = stats["max"] - stats["min"] < 1e-4
    assert (normal.abs().amax(dim=0).numpy()[~small] <= REACH * 1.001).all()
    scale = np.abs(values).max() + 1e-6
    np.testing.assert_allclose(normalizer.inverse(normal).numpy(), values, atol=1e-5 * scale)


def test_an_ordinary_entry_is_normalised_as_before() -> None:
    values = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    stats = dataclasses.asdict(vector_stats(values))
    before = Normalizer({"action": stats}, "action", "quantile")
    after = Normalizer(
        {"action": {**stats, FLOOR: least_scale(stats["min"], stats["max"])}}, "action", "quantile"
    )
    assert torch.equal(before.scale, after.scale)
    assert torch.equal(before.shift, after.shift)


def valve(number: int, moves: np.ndarray) -> np.ndarray:
    """A valve that stands still but for noise, and is opened in 3 of 400 frames."""
    moves[:, 1] = 1e-5 * np.random.default_rng(number).standard_normal(len(moves))
    if number == 0:
        moves[40:43, 1] = 1.0
    return moves


@pytest.mark.parametrize("action", [ChunkConfig(normalization="quantile"), BinsConfig(), FastConfig()])
def test_an_entry_that_rarely_moves_is_coded_with_its_rare_movements(
    action: ActionConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record(tmp_path, (100,) * 4, valve)
    dataset = Dataset(tmp_path / "data")
    coded = action.build(spec_of(dataset), 4)
    coded.fit(dataset, 0)
    chunk = torch.from_numpy(dataset.action[40:44].copy())[None]
    values = coded.encode(chunk)
    assert values.abs().max() <= max(REACH * 1.001, 1024)
    assert (coded.decode(values) - chunk)[0, :, 1].abs().max() < 0.25
    if isinstance(action, ChunkConfig):
        train(config(tmp_path, tmp_path / "run", design=design_for(action, 4)), progress=False)
        assert "entry 'valve': it rarely moves" in caplog.text
        assert "(episode 0 frame 40 has 1)" in caplog.text


def test_a_value_far_out_is_said_with_its_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def spike(number: int, moves: np.ndarray) -> np.ndarray:
        moves[:, 0] *= 1e-3
        if number == 2:
            moves[7, 0] = 1.0
        return moves

    record(tmp_path, (500,) * 4, spike)
    train(config(tmp_path, tmp_path / "run", design=design_for(ChunkConfig(), 4), steps=2), progress=False)
    assert (
        "action entry 'x': normalised by mean_std, it reaches 44.7 (episode 2 frame 7 has 1)" in caplog.text
    )


def test_one_sample_standardises_to_zero() -> None:
    one = Standardizer(2)
    one.fit(torch.tensor([[3.0, 4.0]]))
    assert torch.equal(one(torch.tensor([[3.0, 5.0]])), torch.tensor([[0.0, 1.0]]))


def test_old_statistics_without_a_floor_keep_their_scales() -> None:
    data = data_spec()
    assert FLOOR not in data.stats["action"]
    assert float(Normalizer(data.stats, "action", "quantile").scale.max()) > 0
