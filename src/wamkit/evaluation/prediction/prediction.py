"""Prediction quality of a design, reported beside its control: predicted futures against the ground truth.

Three arms are measured against the ground truth. ``model`` is the prediction. ``copy`` repeats the present. ``ideal``
is the ground truth passed through the substrate, the best that any prediction in this substrate can do (a codec blurs).
``drift`` is how much worse than ``ideal`` the model is; it is zero for a perfect model at any horizon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, final

import draccus
import draccus.utils
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wamkit.contract.streams import Reading
from wamkit.contract.types import Observation
from wamkit.evaluation.prediction.estimates import Estimate, Values, estimate
from wamkit.evaluation.prediction.measures import MEASURES, Better, Measure
from wamkit.evaluation.prediction.open_loop import OpenLoop
from wamkit.storage.documents import decode_document, read_document, write_document

FORMAT = "wamkit-prediction-1"
PREDICTION_FILE = "prediction.json"
ARMS = ("model", "copy", "ideal")


@dataclass(frozen=True)
class PredictionRow:
    """One measure of one reading of one future stream, at one horizon.

    Attributes:
        stream: name of the future stream.
        reading: name of the reading of its values, e.g. a camera.
        measure: name of the measure, e.g. ``psnr``.
        unit: unit of the numbers.
        better: direction in which the measure improves.
        ideal_value: score of two equal readings.
        step: control ticks after the call, or the number of the milestone (from 1), as ``clock`` states.
        clock: unit of ``step``.
        calls: model calls behind the prediction; more than 1 if it was rolled out from its own predictions.
        model: score of the prediction.
        copy: score of the repeated present.
        ideal: score of the ground truth passed through the substrate.
        gain: model over copy, window by window; positive where the model is better.
        drift: ideal over model, window by window; positive where the model is worse than it could be.
    """

    stream: str
    reading: str
    measure: str
    unit: str
    better: Better
    ideal_value: float
    step: int
    clock: Literal["ticks", "milestone"]
    calls: int
    model: Estimate
    copy: Estimate
    ideal: Estimate
    gain: Estimate
    drift: Estimate

    @property
    def key(self) -> str:
        """Unique name of this row, e.g. ``future.scene.psnr@8``."""
        step = f"{self.step}" if self.clock == "ticks" else f"milestone {self.step}"
        return (
            f"{self.stream}.{self.reading}.{self.measure}@{step}{'' if self.calls == 1 else ', rolled out'}"
        )


@dataclass(frozen=True)
class Distance:
    """Frechet distance between predicted and true features.

    Attributes:
        name: name of the distance, ``frechet[<features>]``.
        stream: name of the future stream.
        step: control ticks after the call.
        n: number of samples on either side.
        features: width of the features.
        model: squared distance of the predictions from the ground truth, or None with too few samples.
        copy: squared distance of the repeated present from the ground truth, or None with too few samples.
        floor: squared distance between two random halves of the ground truth (n / 2 samples each, so it is biased
            upwards: the distance shrinks with n), or None with too few samples.
        note: reason for missing values, if any.
    """

    name: str
    stream: str
    step: int
    n: int
    features: int
    model: float | None
    copy: float | None
    floor: float | None
    note: str = ""


@dataclass(frozen=True)
class Prediction:
    """Measured prediction quality, the contents of ``prediction.json``.

    Attributes:
        name: name of the design.
        design: the design's description of itself.
        actions: actions that the futures follow: the design's ``own`` or the ``demonstrated`` ones.
        rows: measures per stream, reading and horizon.
        distances: Frechet distances.
        windows: number of predicted windows.
        episodes: number of episodes that the windows come from.
        budget: budget of every model call.
        seed: seed of the prediction noise and of the bootstrap.
        dataset: fingerprint of the demonstrations.
        versions: versions of the packages and the commit.
        device: names of the processor and the GPU.
        wall_s: duration of the measurement, seconds.
        notes: remarks that the reader must see.
        checkpoint: digest of the design's files, or None if it was not loaded from a checkpoint.
        measured_on: sentence that says which episodes were measured, and whether training had seen them.
        open_loop: errors of its actions against recorded ones; None where they were not measured.
    """

    name: str
    design: dict[str, Any]
    actions: str
    rows: tuple[PredictionRow, ...]
    distances: tuple[Distance, ...]
    windows: int
    episodes: int
    budget: dict[str, Any]
    seed: int
    dataset: str | None
    versions: dict[str, str]
    device: dict[str, str]
    wall_s: float
    notes: tuple[str, ...] = field(default=())
    checkpoint: str | None = None
    measured_on: str = ""
    open_loop: OpenLoop | None = None

    def save(self, path: Path) -> None:
        """Write the file atomically."""
        write_document(path, {"format": FORMAT, **draccus.encode(self)})

    @staticmethod
    def load(path: Path) -> Prediction:
        """Read a file; raises :class:`DataError` if it is not a prediction file of this version."""
        return decode_document(Prediction, read_document(path, FORMAT, "prediction file"), path)

    def measures(self) -> tuple[dict[str, float], frozenset[str]]:
        """Row key -> mean of the model, and the keys for which lower is better; input of ``correlate``."""
        values = {row.key: row.model.mean for row in self.rows if row.model.mean is not None}
        for d in self.distances:
            if d.model is not None:
                values[f"{d.stream}.{d.name}@{d.step}"] = d.model
        lower = {row.key for row in self.rows if row.key in values and row.better == "lower"}
        return values, frozenset(lower | {key for key in values if ".frechet[" in key})


@dataclass
class Series:
    """Values of one measure collected so far: arm -> (B, T) blocks."""

    measure: Measure
    unit: str
    arms: dict[str, list[Values]] = field(default_factory=lambda: {arm: [] for arm in ARMS})


@final
class ArmComparison:
    """Collects measures of one future stream in three arms against the ground truth, batch by batch.

    Args:
        stream: name of the stream.
        steps: labels of the T steps, in ticks or milestones.
        clock: unit of ``steps``.
        calls: number of model calls behind each step; 1 each if empty.
    """

    def __init__(
        self,
        stream: str,
        steps: Sequence[int],
        clock: Literal["ticks", "milestone"] = "ticks",
        calls: Sequence[int] = (),
    ) -> None:
        self.stream, self.steps, self.clock = stream, tuple(steps), clock
        self.calls = tuple(calls) or (1,) * len(self.steps)
        self._series: dict[tuple[str, str], Series] = {}
        self._episodes: list[NDArray[np.int64]] = []

    def add(
        self,
        arms: Mapping[str, Mapping[str, Reading]],
        truth: Mapping[str, Reading],
        pad: Tensor,
        episodes: NDArray[np.int64],
    ) -> None:
        """Add B windows.

        Args:
            arms: readings (B, T, ...) of ``model``, ``copy`` and ``ideal``.
            truth: ground-truth readings.
            pad: padding mask (B, T), True where the step lies outside the episode.
            episodes: episode number of each window, (B,).
        """
        self._episodes.append(episodes)
        for name, true in truth.items():
            for measure in MEASURES[true.kind]:
                unit = true.unit if measure.unit is None else measure.unit
                series = self._series.setdefault((name, measure.name), Series(measure, unit))
                for arm in ARMS:
                    values = measure.compare(arms[arm][name], true).double().masked_fill(pad, float("nan"))
                    series.arms[arm].append(values.cpu().numpy())

    def rows(self, seed: int) -> list[PredictionRow]:
        """Rows by reading, measure and step."""
        if not self._episodes:
            return []
        episodes = np.concatenate(self._episodes)
        rows: list[PredictionRow] = []
        for (reading, _), series in self._series.items():
            columns = {arm: np.concatenate(blocks) for arm, blocks in series.arms.items()}
            rows += [
                self._row(reading, series, i, {a: v[:, i] for a, v in columns.items()}, episodes, seed)
                for i in range(len(self.steps))
            ]
        return rows

    def _row(
        self,
        reading: str,
        series: Series,
        step: int,
        arm: Mapping[str, Values],
        episodes: NDArray[np.int64],
        seed: int,
    ) -> PredictionRow:
        measure = series.measure
        means = {name: estimate(values, episodes, seed) for name, values in arm.items()}
        return PredictionRow(
            stream=self.stream,
            reading=reading,
            measure=measure.name,
            unit=series.unit,
            better=measure.better,
            ideal_value=measure.ideal,
            step=self.steps[step],
            clock=self.clock,
            calls=self.calls[step],
            gain=estimate(measure.sign * (arm["model"] - arm["copy"]), episodes, seed),
            drift=estimate(measure.sign * (arm["ideal"] - arm["model"]), episodes, seed),
            **means,
        )


def real_pictures(readings: Mapping[str, Reading], observed: Observation) -> dict[str, Reading]:
    """``readings`` with every camera's picture replaced by the frame that it recorded at the same step."""
    return {
        name: Reading("picture", observed.images[name].to(reading.values.device).float() / 255)
        if reading.kind == "picture" and name in observed.images
        else reading
        for name, reading in readings.items()
    }
