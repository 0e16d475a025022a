"""Measures of prediction: ideal on equal clips, worse with more noise, equal to the reference implementations."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from wamkit.contract.streams import Reading, ReadingKind
from wamkit.errors import DataError
from wamkit.evaluation.prediction.measures import MEASURES, MOST_DB, Measure
from wamkit.geometry.rotations import from_quaternion, from_six_d


def draw(kind: ReadingKind, seed: int = 0) -> Reading:
    g = torch.Generator().manual_seed(seed)
    if kind == "picture":
        return Reading(kind, torch.rand(2, 3, 3, 24, 20, generator=g))
    if kind == "classes":
        return Reading(kind, torch.randint(0, 4, (2, 3, 30), generator=g), classes=5)
    if kind == "token":
        return Reading(kind, torch.randint(0, 50, (2, 3, 30), generator=g))
    if kind == "rotation":
        return Reading(kind, from_six_d(torch.randn(2, 3, 2, 6, generator=g)))
    return Reading(kind, torch.randn(2, 3, 30, 3, generator=g), "m")


def noisy(reading: Reading, level: float, seed: int = 9) -> Reading:
    """The same draw of noise, ``level`` times as strong; for ids, that part of them replaced."""
    g = torch.Generator().manual_seed(seed)
    values = reading.values
    if not values.is_floating_point():
        hit = torch.rand(values.shape, generator=g) < level
        return Reading(reading.kind, torch.where(hit, (values + 1) % 4, values), classes=reading.classes)
    noise = torch.randn(values.shape, generator=g) * level
    if reading.kind == "rotation":
        noisy_columns = (values + noise)[..., :2].transpose(-1, -2).flatten(-2)
        return Reading(reading.kind, from_six_d(noisy_columns))
    result = values + noise
    return Reading(reading.kind, result.clamp(0, 1) if reading.kind == "picture" else result, reading.unit)


CASES = [pytest.param(kind, m, id=m.name) for kind, ms in MEASURES.items() for m in ms]


@pytest.mark.parametrize(("kind", "measure"), CASES)
def test_identical_clips_give_the_ideal_score(kind: ReadingKind, measure: Measure) -> None:
    clip = draw(kind)
    found = measure.compare(clip, clip)
    assert found.shape == (2, 3)
    torch.testing.assert_close(found, torch.full((2, 3), measure.ideal), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("kind", "measure"), CASES)
def test_monotone_noise_gives_monotone_worsening(kind: ReadingKind, measure: Measure) -> None:
    clip = draw(kind)
    levels = [measure.sign * measure.compare(noisy(clip, s), clip).mean().item() for s in (0, 0.05, 0.2, 0.5)]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] - levels[-1] > 0.01


def test_values_match_torchmetrics_on_fixture_clips() -> None:
    clip, other = draw("picture"), noisy(draw("picture"), 0.1)
    measures = {m.name: m for m in MEASURES["picture"]}
    psnr, ssim = (measures[name].compare(other, clip) for name in ("psnr", "ssim"))
    for b in range(2):
        for t in range(3):
            pair = other.values[b, t][None], clip.values[b, t][None]
            torch.testing.assert_close(psnr[b, t], PeakSignalNoiseRatio(data_range=1.0)(*pair))
            reference = StructuralSimilarityIndexMeasure(data_range=1.0)(*pair)
            torch.testing.assert_close(ssim[b, t], reference, atol=1e-5, rtol=1e-5)
    masks, moved = draw("classes"), noisy(draw("classes"), 0.3)
    (iou,) = (m.compare(moved, masks) for m in MEASURES["classes"])
    torch.testing.assert_close(
        iou[1, 2], MulticlassJaccardIndex(num_classes=5)(moved.values[1, 2], masks.values[1, 2])
    )


def test_iou_by_hand_and_without_the_classes_that_are_nowhere() -> None:
    true = Reading("classes", torch.tensor([[[0, 0, 1, 1]]]), classes=5)
    said = Reading("classes", torch.tensor([[[0, 1, 1, 1]]]), classes=5)
    (measure,) = MEASURES["classes"]
    assert measure.compare(said, true).item() == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_psnr_by_hand_and_capped() -> None:
    grey = Reading("picture", torch.full((1, 1, 3, 16, 16), 0.5))
    psnr = MEASURES["picture"][0]
    off = Reading("picture", grey.values + 0.1)
    assert psnr.compare(off, grey).item() == pytest.approx(20.0, abs=1e-4)
    assert psnr.compare(grey, grey).item() == MOST_DB


def test_hidden_points_do_not_count() -> None:
    (epe,) = MEASURES["displacement"]
    known = torch.tensor([[[True, True, False]], [[False, False, False]]])
    true = Reading("displacement", torch.zeros(2, 1, 3, 2), "px", known)
    said = Reading("displacement", torch.tensor([3.0, 4.0]).expand(2, 1, 3, 2).clone(), "px")
    said.values[:, :, 2] = 1e6
    found = epe.compare(said, true)
    assert found[0].item() == pytest.approx(5.0)
    assert found[1].isnan().all()


@given(st.floats(0.001, math.pi))
def test_the_angle_of_a_turn_is_its_angle(turn: float) -> None:
    half = torch.tensor([math.cos(turn / 2), 0.0, 0.0, math.sin(turn / 2)], dtype=torch.float64)
    said = Reading("rotation", from_quaternion(half)[None, None, None])
    true = Reading("rotation", torch.eye(3, dtype=torch.float64)[None, None, None])
    (angle,) = MEASURES["rotation"]
    assert angle.compare(said, true).item() == pytest.approx(math.degrees(turn), rel=1e-5)


def test_small_pictures_are_refused() -> None:
    tiny = Reading("picture", Tensor(1, 1, 3, 4, 4).fill_(0.5))
    with pytest.raises(DataError, match="shorter than 6 pixels"):
        MEASURES["picture"][1].compare(tiny, tiny)
