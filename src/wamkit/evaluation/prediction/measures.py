"""Measures of a predicted reading against the true one: one or more for every kind of reading.

A measure maps two readings to one number per window and step, (B, T), NaN where nothing can be compared. The kind of
a reading selects its measures; substrates state the kind of their values (:meth:`wamkit.contract.Substrate.readings`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from wamkit.contract.streams import Reading, ReadingKind
from wamkit.errors import DataError
from wamkit.evaluation.report.fidelity import MOST_DB, psnr

Better = Literal["higher", "lower"]
LEAST_SIDE = 6  # pixels; SSIM mirrors half of its window at the image edge


@dataclass(frozen=True)
class Measure:
    """Definition of a measure: one number per window and step.

    Attributes:
        name: name in reports.
        better: direction in which the measure improves.
        ideal: value for a perfect prediction.
        unit: unit of the value; ``None`` stands for the unit of the reading.
        compare: function of (predicted, true) that returns (B, T).
    """

    name: str
    better: Better
    ideal: float
    unit: str | None
    compare: Callable[[Reading, Reading], Tensor]

    @property
    def sign(self) -> float:
        """1 if higher is better, else -1."""
        return 1.0 if self.better == "higher" else -1.0


def picture_psnr(predicted: Reading, true: Reading) -> Tensor:
    """Peak signal-to-noise ratio of pictures in [0, 1], dB, at most :data:`MOST_DB`."""
    ratio = psnr(predicted.values.flatten(0, 1), true.values.flatten(0, 1))
    return ratio.clamp(max=MOST_DB).unflatten(0, true.values.shape[:2])


def ssim(predicted: Reading, true: Reading) -> Tensor:
    """Structural similarity (Wang et al. 2004) with a Gaussian window of 11 pixels."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    if min(true.values.shape[-2:]) < LEAST_SIDE:
        raise DataError(
            f"ssim: pictures of {tuple(true.values.shape[-2:])} pixels have a side shorter than {LEAST_SIDE} pixels"
        )
    a, b = predicted.values.flatten(0, 1), true.values.flatten(0, 1)
    similarity = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
    return torch.as_tensor(similarity).reshape(true.values.shape[:2])


def mean_known(error: Tensor, known: Tensor | None) -> Tensor:
    """Mean of (B, T, K) over the K points with known ground truth, (B, T); NaN where there are none."""
    keep = torch.ones_like(error, dtype=torch.bool) if known is None else known
    return error.masked_fill(~keep, 0.0).sum(dim=-1) / keep.sum(dim=-1).float().masked_fill(
        ~keep.any(dim=-1), float("nan")
    )


def end_point_error(predicted: Reading, true: Reading) -> Tensor:
    """Mean distance of displaced points, over the points visible in the ground truth."""
    return mean_known((predicted.values - true.values).norm(dim=-1), true.known)


def angle(predicted: Reading, true: Reading) -> Tensor:
    """Mean angle of the rotation from predicted to true, degrees."""
    # From the half chord, which is exact at zero; the arc cosine of the trace loses half its digits there.
    chord = (predicted.values - true.values).flatten(-2).norm(dim=-1) / 8**0.5
    return torch.rad2deg(2 * chord.clamp(max=1).asin()).mean(dim=-1)


def iou(predicted: Reading, true: Reading) -> Tensor:
    """Intersection over union, averaged over the classes present in either map."""
    from torchmetrics.functional.classification import multiclass_jaccard_index

    pairs = zip(predicted.values.flatten(0, 1), true.values.flatten(0, 1), strict=True)
    values = [multiclass_jaccard_index(a, b, num_classes=true.classes, average="macro") for a, b in pairs]
    return torch.stack(values).unflatten(0, true.values.shape[:2])


def cosine(predicted: Reading, true: Reading) -> Tensor:
    """Mean cosine similarity of feature vectors."""
    return mean_known(F.cosine_similarity(predicted.values, true.values, dim=-1), true.known)


def absolute_error(predicted: Reading, true: Reading) -> Tensor:
    """Mean absolute error of all entries."""
    return (predicted.values - true.values).abs().flatten(2).mean(dim=-1)


def accuracy(predicted: Reading, true: Reading) -> Tensor:
    """Share of correct token ids."""
    return (predicted.values == true.values).float().flatten(2).mean(dim=-1)


MEASURES: Mapping[ReadingKind, tuple[Measure, ...]] = {
    "picture": (
        Measure("psnr", "higher", MOST_DB, "dB", picture_psnr),
        Measure("ssim", "higher", 1.0, "", ssim),
    ),
    "displacement": (Measure("epe", "lower", 0.0, None, end_point_error),),
    "rotation": (Measure("angle", "lower", 0.0, "deg", angle),),
    "classes": (Measure("iou", "higher", 1.0, "", iou),),
    "feature": (Measure("cosine", "higher", 1.0, "", cosine),),
    "quantity": (Measure("mae", "lower", 0.0, None, absolute_error),),
    "token": (Measure("accuracy", "higher", 1.0, "", accuracy),),
}
