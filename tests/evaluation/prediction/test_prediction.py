"""Prediction quality of designs: drift of a perfect model is zero, every substrate says how it is measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from scenes import look, pose, scene_spec
from support import data_spec, write_dataset
from wamkit.contract.protocols import SubstrateConfig
from wamkit.contract.types import Batch, Budget, Observation, WindowSpec
from wamkit.data import Dataset
from wamkit.design import Design, DesignConfig, Factor
from wamkit.design.texts import TextConfig
from wamkit.errors import ConfigError, DataError
from wamkit.estimators import AutoregressorConfig, DenoiserConfig
from wamkit.evaluation.prediction import quality
from wamkit.evaluation.prediction.estimates import estimate
from wamkit.evaluation.prediction.measures import MEASURES
from wamkit.evaluation.prediction.prediction import Prediction
from wamkit.evaluation.prediction.quality import (
    Collector,
    PredictionConfig,
    closed_loop_rows,
    measure_prediction,
)
from wamkit.evaluation.prediction.texts import TextAnswers
from wamkit.evaluation.report.filmstrip import make_strip
from wamkit.substrates import (
    AudioFutureConfig,
    ContactConfig,
    DepthMapConfig,
    EmaFeatureConfig,
    HeatmapConfig,
    NormalMapConfig,
    ObjectFlowConfig,
    PixelsConfig,
    PolylineConfig,
    PoseStreamConfig,
    ProprioceptionConfig,
    QuantizedConfig,
    SegmentationConfig,
    TactileFutureConfig,
    TeacherFeatureConfig,
    TracksConfig,
    VlmTokenConfig,
    WrenchConfig,
)
from wamkit.zoo import recipe


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Dataset(write_dataset(tmp_path_factory.mktemp("prediction") / "data", episodes=4, length=40))


@pytest.fixture(scope="module")
def joint(dataset: Dataset) -> Design:
    return build(recipe("joint"), dataset)


def build(config: DesignConfig, dataset: Dataset) -> Design:
    torch.manual_seed(0)
    design = Design(config, data_spec())
    design.fit(dataset, 0)
    return design.eval()


def measured(design: Design, dataset: Dataset, **changes: object) -> Prediction:
    config = PredictionConfig(windows=3, batch_size=8, **changes)  # type: ignore[arg-type]
    return measure_prediction(design, dataset, data_spec(), config)


# --------------------------------------------------------------------------------------------------- substrates

GROUND_TRUTH: dict[str, tuple[SubstrateConfig, set[str]]] = {
    "contact": (ContactConfig(), {"iou"}),
    "depth": (DepthMapConfig(grid=4), {"mae"}),
    "heatmap": (HeatmapConfig(grid=8, where="object"), {"mae"}),
    "normals": (NormalMapConfig(grid=4), {"cosine"}),
    "flow": (ObjectFlowConfig(), {"epe"}),
    "flow in the world": (ObjectFlowConfig(space="world"), {"epe"}),
    "path": (PolylineConfig(), {"epe"}),
    "path in a view": (PolylineConfig(camera="scene"), {"epe"}),
    "poses": (PoseStreamConfig(), {"epe", "angle"}),
    "body": (ProprioceptionConfig(), {"mae"}),
    "mask": (SegmentationConfig(grid=8), {"iou"}),
    "mask ids": (SegmentationConfig(grid=8, values="ids"), {"iou"}),
    "tracks": (TracksConfig(), {"epe"}),
    "words": (VlmTokenConfig(opening=""), {"accuracy"}),
    "forces": (WrenchConfig(), {"mae"}),
    "pixels": (PixelsConfig(), {"psnr", "ssim"}),
    "token ids of poses": (QuantizedConfig(PoseStreamConfig(), 4), {"epe", "angle"}),
}


def seen_scene() -> tuple[Observation, Observation]:
    """Now, and two later steps in which the plate has moved and turned."""
    start = pose(0.0, 0.0, 0.2)
    moved = [pose(0.1, 0.05, 0.25, 0.4), pose(-0.1, 0.0, 0.3, 0.9)]
    return look([start]), look(moved)


@pytest.mark.parametrize("name", GROUND_TRUTH)
def test_every_substrate_says_how_its_values_compare(name: str) -> None:
    config, expected = GROUND_TRUTH[name]
    substrate = config.build(scene_spec())
    now, later = seen_scene()
    values = substrate.encode(later, now)
    readings = substrate.readings(values)
    found = {m.name for r in readings.values() for m in MEASURES[r.kind]}
    assert found == expected
    for reading in readings.values():
        for measure in MEASURES[reading.kind]:
            same = measure.compare(reading, reading)
            assert same.shape == (1, 2)
            torch.testing.assert_close(
                same, torch.full_like(same, measure.ideal), atol=1e-3, rtol=0, equal_nan=False
            )


def test_a_flow_that_is_off_by_three_and_four_pixels_has_an_error_of_five() -> None:
    substrate = ObjectFlowConfig().build(scene_spec())
    now, later = seen_scene()
    values = substrate.encode(later, now)
    field = values.unflatten(3, (8, 4)).clone()
    field[..., 0] += 3 * 2 / 32
    field[..., 1] += 4 * 2 / 32
    (measure,) = MEASURES["displacement"]
    said, true = (substrate.readings(v)["flow"] for v in (field.flatten(3), values))
    torch.testing.assert_close(measure.compare(said, true), torch.full((1, 2), 5.0))
    assert true.known is not None
    assert 0 < true.known.float().mean() < 1


def test_sounds_and_touches_are_measured_as_what_is_heard_and_felt() -> None:
    rng = torch.Generator().manual_seed(0)
    data = replace(data_spec(), extras={"audio": (640,), "tactile": (16, 16, 3)})
    heard, felt = AudioFutureConfig().build(data), TactileFutureConfig().build(data)
    heard.codec.fit(torch.rand(40, 1, heard.frames, 32, generator=rng), 0)
    felt.codec.fit(torch.rand(40, 3, 16, 16, generator=rng), 0)
    specs = [part.spec("s", "future", 2) for part in (heard, felt)]
    sound, touch = (torch.zeros(1, 2, spec.tokens, spec.features) for spec in specs)
    (loud,) = heard.readings(sound).values()
    assert (loud.kind, loud.unit) == ("quantity", "dB")
    assert felt.readings(touch)["tactile"].values.shape == (1, 2, 3, 16, 16)


# ------------------------------------------------------------------------------------------------------ designs


def test_drift_of_a_perfect_model_is_zero(
    joint: Design, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def perfect(design: Design, batch: Batch, *_: object) -> dict[str, Tensor]:
        return {"future": design.targets(batch)["future"].values}

    monkeypatch.setattr(quality, "predict_futures", perfect)
    found = measured(joint, dataset)
    assert {row.key for row in found.rows} == {
        f"future.{camera}.{measure}@8" for camera in ("gripper", "scene") for measure in ("psnr", "ssim")
    }
    for row in found.rows:
        assert (row.drift.mean, row.drift.low, row.drift.high) == (0.0, 0.0, 0.0)
        assert row.model == row.ideal
        assert (row.model.n, row.model.episodes) == (12, 4)
        assert row.model.mean is not None
        assert row.model.mean < row.ideal_value  # the codec blurs: no model in this substrate is ideal


def test_an_untrained_model_drifts_and_copying_the_present_is_the_present(
    joint: Design, dataset: Dataset, tmp_path: Path
) -> None:
    found = measured(joint, dataset)
    for row in found.rows:
        assert row.drift.mean is not None
        assert row.drift.mean > 0
        assert row.gain.mean == pytest.approx((row.model.mean or 0) - (row.copy.mean or 0), abs=1e-6)
    index = np.concatenate(
        [np.linspace(e.start, e.stop - 9, 3).round().astype(int) for e in dataset.episodes]
    )
    batch = dataset.windows(index, WindowSpec(future=(8,)))
    assert batch.future is not None
    a, b = batch.observation.images["scene"].double() / 255, batch.future.images["scene"].double() / 255
    truth = (-10 * (a - b).square().mean(dim=(1, 2, 3, 4)).log10()).mean().item()
    (psnr,) = (row for row in found.rows if (row.reading, row.measure) == ("scene", "psnr"))
    assert psnr.copy.mean == pytest.approx(truth, rel=1e-5)
    found.save(tmp_path / "prediction.json")
    assert Prediction.load(tmp_path / "prediction.json") == found
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(DataError, match="field 'format'"):
        Prediction.load(tmp_path / "other.json")


def test_rolling_on_is_measured_at_every_horizon(dataset: Dataset) -> None:
    design = build(recipe("chunk_causal"), dataset)
    found = measured(design, dataset, steps=3, actions="demonstrated")
    rolled = [row for row in found.rows if row.reading == "scene" and row.measure == "psnr"]
    assert [(row.step, row.calls) for row in rolled] == [(8, 1), (8, 1), (16, 2), (24, 3)]
    # The first step of the roll is the call itself: same given action, and a denoiser at temperature 0.
    assert rolled[0].model.mean == pytest.approx(rolled[1].model.mean, rel=1e-4)
    assert {row.unit for row in found.rows if row.stream == "body"} == {"normalised", ""}


def test_distances_are_named_by_their_features_and_say_when_samples_are_few(dataset: Dataset) -> None:
    teacher = TeacherFeatureConfig(features=3, grid=2, steps=3, batch_size=8)
    config = replace(recipe("post_head"), substrates={"teacher": teacher})
    design = build(config, dataset)
    (found,) = measured(design, dataset).distances
    assert (found.name, found.n, found.features) == ("frechet[teacher_feature]", 12, 3)
    assert found.model is not None
    assert found.copy is not None
    assert found.model > found.copy > 0
    eye = replace(teacher, features=20)
    (few,) = measured(build(recipe("joint"), dataset), dataset, features={"teacher_feature": eye}).distances
    assert few.model is None
    assert "12 samples of 20 features" in few.note


def test_refusals(joint: Design, dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match="predicts no future"):
        measured(build(recipe("direct"), dataset), dataset)
    with pytest.raises(ConfigError, match="carries no state between calls"):
        measured(joint, dataset, steps=2)
    with pytest.raises(ConfigError, match="cannot be computed from a picture alone"):
        measured(joint, dataset, features={"ema": EmaFeatureConfig()})
    with pytest.raises(ConfigError, match="must be at least 1"):
        PredictionConfig(windows=0)


# --------------------------------------------------------------------------------------------------- statistics


def test_the_interval_draws_whole_episodes() -> None:
    """Windows of one episode that all say the same are one sample, not many."""
    episodes = np.repeat(np.arange(6), 50)
    same = np.repeat(np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0]), 50)
    clustered, apart = estimate(same, episodes), estimate(same, np.arange(300))
    assert clustered.mean == apart.mean == 0.5
    assert clustered.low is not None
    assert clustered.high is not None
    assert apart.low is not None
    assert apart.high is not None
    assert clustered.high - clustered.low > 4 * (apart.high - apart.low)
    assert estimate(np.array([1.0, np.nan]), np.array([0, 1])) == estimate(np.array([1.0]), np.array([0]))
    assert estimate(np.array([np.nan]), np.array([0])).mean is None


def test_futures_of_the_closed_loop_are_read_off_filmstrips() -> None:
    rng = np.random.default_rng(0)
    now, real = (rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(2))
    seeds: Sequence[int] = (3, 4)
    strips = [make_strip("push", s, "scene", 0, True, now, [(4, real, real), (8, now, real)]) for s in seeds]
    short = make_strip("push", 3, "scene", 8, True, now, [(4, real, real)])
    rows = {row.key: row for row in closed_loop_rows([*strips, short])}
    perfect, still = rows["closed loop.scene.ssim@4"], rows["closed loop.scene.ssim@8"]
    assert (perfect.model.n, perfect.model.episodes, still.model.n) == (3, 2, 2)
    assert perfect.drift.mean == pytest.approx(0.0)
    assert still.gain.mean == pytest.approx(0.0)  # what was imagined there is the present
    assert still.drift.mean is not None
    assert still.drift.mean > 0.5


def test_texts_are_counted_and_shown(dataset: Dataset) -> None:
    pytest.importorskip("tokenizers")
    config = replace(
        recipe("direct"),
        texts={"subtask": TextConfig(sentences=("push it", "pull it"), length=6)},
        estimators={"words": AutoregressorConfig(), "policy": DenoiserConfig(steps=1)},
        factors=(Factor(("subtask",), (), "words"), Factor(("action",), ("subtask",), "policy")),
    )
    answers = TextAnswers(build(config, dataset), Budget())
    frames = np.arange(0, dataset.num_frames, 20)
    answers.add(dataset.windows(frames, WindowSpec(horizon=config.horizon)), frames.tolist())
    (note,) = answers.notes()
    said = re.fullmatch(
        r"text 'subtask': (\d+) of (\d+) windows say what the data say; '(.*)' stands for '(.*)'", note
    )
    assert said is not None
    assert int(said[1]) < int(said[2]) == len(frames)
    assert {said[3], said[4]} == {"push it", "pull it"}
    (row,) = [row for row in Collector(answers._design, PredictionConfig(), []).notes() if "'subtask'" in row]
    assert row == "text 'subtask': 0 of 0 windows say what the data say"
