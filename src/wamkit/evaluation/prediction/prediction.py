"""How well a design predicts, beside how well it controls: its futures against what really came.

Three arms are measured against the truth. ``model`` is the prediction. ``copy`` holds the present: nothing moves.
``ideal`` is the truth itself, put through the substrate: what no prediction in this substrate can beat (a codec blurs).
``drift`` is how much worse than ``ideal`` the model is, so that a perfect model has none at any horizon.
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
from scipy import stats
from torch import Tensor

from wamkit.contract.streams import Reading
from wamkit.contract.types import Observation
from wamkit.evaluation.prediction.measures import MEASURES, Better, Measure
from wamkit.evaluation.report.documents import decode_document, read_document, write_document

FORMAT = "wamkit-prediction-1"
FILE = "prediction.json"
RESAMPLES = 1000
ARMS = ("model", "copy", "ideal")
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over windows with an interval over episodes.

    Attributes:
        n: windows.
        episodes: episodes that they come from.
        mean: mean over windows, or None without any.
        low: lower end of the 95 % percentile-bootstrap interval over episodes; None with fewer than two.
        high: upper end.
    """

    n: int
    episodes: int
    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class PredictionRow:
    """One measure of one reading of one future stream, at one horizon.

    Attributes:
        stream: the future stream.
        reading: what is read off its values, e.g. a camera.
        measure: e.g. ``psnr``.
        unit: of the numbers.
        better: which way is better.
        ideal_value: what two equal readings score.
        step: ticks after the call, or the number of the milestone (from 1) where ``clock`` says so.
        clock: what ``step`` counts.
        calls: model calls behind the prediction: 1, or more where it was rolled on from its own predictions.
        model: the prediction.
        copy: the present held still.
        ideal: the truth as the substrate can say it.
        gain: model over copy, window by window, positive where the model is better.
        drift: ideal over model, window by window, positive where the model is worse than it could be.
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
        """Name of this row, e.g. ``future.scene.psnr@8``."""
        step = f"{self.step}" if self.clock == "ticks" else f"milestone {self.step}"
        return (
            f"{self.stream}.{self.reading}.{self.measure}@{step}{'' if self.calls == 1 else ', rolled out'}"
        )


@dataclass(frozen=True)
class Distance:
    """Frechet distance between predicted and true features.

    Attributes:
        name: ``frechet[<features>]``.
        stream: the future stream.
        step: ticks after the call.
        n: samples on either side.
        features: width of the features.
        model: squared distance of the predictions, or None where there are too few samples.
        copy: that of the present held still.
        floor: that of one random half of the truth to the other, each n / 2; the distance shrinks with n.
        note: why there is none.
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
    """What was measured, as it is written to ``prediction.json``.

    Attributes:
        name: the design's name.
        design: what the design says of itself.
        actions: whose actions the future follows: the design's ``own`` or the ``demonstrated`` ones.
        rows: the measures.
        distances: Frechet distances.
        windows: windows predicted.
        episodes: episodes they come from.
        budget: what each call could spend.
        seed: of the predictions' noise and of the bootstrap.
        dataset: fingerprint of the demonstrations.
        versions: packages and commit.
        device: processor and GPU.
        wall_s: seconds.
        notes: remarks that a reader must see.
        checkpoint: digest of the design's files, or None when it came from none.
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

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        write_document(path, {"format": FORMAT, **draccus.encode(self)})

    @staticmethod
    def load(path: Path) -> Prediction:
        """Read a file; raises :class:`DataError` when it is none, or one of another version."""
        return decode_document(Prediction, read_document(path, FORMAT, "prediction file"), path)

    def measures(self) -> tuple[dict[str, float], frozenset[str]]:
        """Row key -> the model's mean, and the keys of those that are errors, for ``correlate``."""
        known = [row for row in self.rows if row.model.mean is not None]
        values = {row.key: row.model.mean for row in known if row.model.mean is not None}
        for d in self.distances:
            if d.model is not None:
                values[f"{d.stream}.{d.name}@{d.step}"] = d.model
        lower = {row.key for row in known if row.better == "lower"}
        return values, frozenset(lower | {key for key in values if ".frechet[" in key})


def estimate(values: Values, episodes: NDArray[np.int64], seed: int = 0) -> Estimate:
    """Mean of ``values`` (N,) with a percentile bootstrap that draws whole episodes. NaN is left out."""
    keep = np.isfinite(values)
    if not keep.any():
        return Estimate(0, 0, None, None, None)
    _, group = np.unique(episodes[keep], return_inverse=True)
    sums, counts = np.bincount(group, values[keep]), np.bincount(group).astype(float)
    mean, n = float(sums.sum() / counts.sum()), int(keep.sum())
    if len(sums) < 2:
        return Estimate(n, len(sums), mean, None, None)

    def pooled(total: Values, count: Values, axis: int = -1) -> Values:
        return np.asarray(total.sum(axis=axis) / count.sum(axis=axis))

    drawn = stats.bootstrap(
        (sums, counts),
        pooled,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    ends = drawn.confidence_interval
    return Estimate(n, len(sums), mean, float(ends.low), float(ends.high))


@dataclass
class Series:
    """One measure's numbers so far: arm -> (B, T) blocks."""

    measure: Measure
    unit: str
    arms: dict[str, list[Values]] = field(default_factory=lambda: {arm: [] for arm in ARMS})


@final
class ArmComparison:
    """Collects readings of one future stream in three arms against the truth, batch by batch.

    Args:
        stream: name of the stream.
        steps: what its steps are called: ticks or milestones, T of them.
        clock: which.
        calls: model calls behind each step.
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
            arms: ``model``, ``copy`` and ``ideal`` -> readings (B, T, ...).
            truth: readings that they are compared with.
            pad: (B, T), True where the step lies outside the episode.
            episodes: (B,) the episode of each window.
        """
        self._episodes.append(episodes)
        for name, true in truth.items():
            for measure in MEASURES[true.kind]:
                unit = true.unit if measure.unit is None else measure.unit
                series = self._series.setdefault((name, measure.name), Series(measure, unit))
                for arm in ARMS:
                    found = measure.compare(arms[arm][name], true).double().masked_fill(pad, float("nan"))
                    series.arms[arm].append(found.cpu().numpy())

    def rows(self, seed: int) -> list[PredictionRow]:
        """The finished rows, by reading, measure and step."""
        if not self._episodes:
            return []
        episodes = np.concatenate(self._episodes)
        found: list[PredictionRow] = []
        for (reading, _), series in self._series.items():
            columns = {arm: np.concatenate(blocks) for arm, blocks in series.arms.items()}
            found += [
                self._row(reading, series, i, {a: v[:, i] for a, v in columns.items()}, episodes, seed)
                for i in range(len(self.steps))
            ]
        return found

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


def real_pictures(readings: Mapping[str, Reading], seen: Observation) -> dict[str, Reading]:
    """``readings`` with every picture of a camera replaced by what that camera really showed at the same steps."""
    return {
        name: Reading("picture", seen.images[name].to(reading.values.device).float() / 255)
        if reading.kind == "picture" and name in seen.images
        else reading
        for name, reading in readings.items()
    }
