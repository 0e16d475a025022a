"""Measure a design's predictions on demonstrations, and the ones it made in closed loop."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, final

import draccus
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wamkit.config.ranges import Count, Length, Seed, Size, Whole
from wamkit.config.values import Config
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import SubstrateConfig
from wamkit.contract.specs import ACTION
from wamkit.contract.streams import Reading, row_seed
from wamkit.contract.types import Batch, Budget, Forecast, Observation, to_device
from wamkit.data import Dataset
from wamkit.design import Design
from wamkit.design.observed import read_source
from wamkit.errors import ConfigError
from wamkit.evaluation.prediction.features import FeatureDistances, FeatureExtractor
from wamkit.evaluation.prediction.prediction import (
    ArmComparison,
    Distance,
    Prediction,
    PredictionRow,
    real_pictures,
)
from wamkit.evaluation.prediction.texts import TextAnswers
from wamkit.evaluation.prediction.windows import future_of, spread_windows
from wamkit.evaluation.report.filmstrip import Filmstrip
from wamkit.evaluation.report.machine import device_names
from wamkit.imagination.unrolling import check_unrollable, unroll
from wamkit.progress import track
from wamkit.storage.provenance import versions

Actions = Literal["own", "demonstrated"]


@dataclass(frozen=True)
class PredictionConfig(Config):
    """Settings of a measurement of prediction quality.

    Attributes:
        windows: number of windows per episode, spread evenly.
        batch_size: number of windows per model call.
        actions: actions that the predicted future follows, ``own`` (those of the design, as when it acts) or
            ``demonstrated`` (those that led to the ground truth). A world model whose action is given has none of its
            own and always follows the demonstrated ones.
        steps: number of model steps; more than one rolls the design out from its own predictions, one stride per
            step. Only designs that carry a state between calls can do that.
        features: substrates, by name, whose features measure the Frechet distance of futures that decode to pictures.
            They are fitted on the demonstrations.
        budget: budget of every model call.
        seed: seed of the prediction noise and of the bootstrap.
        episodes: numbers of the episodes that are measured; by default those that the run of the checkpoint held out
            from this dataset, or else all.
        open_loop: true to compare the actions of a design that acts with the recorded ones.
        drawn: number of episodes whose actions are drawn over time.
    """

    windows: Count = 8
    batch_size: Size = 16
    actions: Actions = "own"
    steps: Size = 1
    features: dict[str, SubstrateConfig] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    seed: Seed = 0
    episodes: Annotated[tuple[Whole, ...], Length(once=True)] = ()
    open_loop: bool = True
    drawn: Whole = 3


def measure_prediction(
    design: Design,
    dataset: Dataset,
    data: DataSpec,
    config: PredictionConfig,
    episodes: Sequence[int] | None = None,
) -> Prediction:
    """Predict windows of every episode and compare them with the ground truth.

    Args:
        design: design in evaluation mode.
        dataset: demonstrations, preferably held out, with the extras that the design reads.
        data: data spec of the demonstrations, for which ``config.features`` are built.
        config: settings of the measurement.
        episodes: numbers of the episodes; None for all.

    Raises:
        ConfigError: the design predicts no future or cannot be rolled out, or ``features`` do not read pictures.
        DataError: no episode has a future.
    """
    if not design.config.futures:
        raise ConfigError(
            f"design {design.name!r} ({design.factorisation()}) predicts no future that could be measured"
        )
    if config.steps > 1:
        check_unrollable(design, config.budget)
    config = replace(config, actions=actions_followed(design, config))
    begin = time.perf_counter()
    extractors = [
        FeatureExtractor(name, part, data, dataset, config.seed) for name, part in config.features.items()
    ]
    collector = Collector(design, config, extractors)
    ahead = max(design.training_window.future, default=1)
    ahead = max(ahead, config.steps * design.config.stride)
    acted = config.actions == "demonstrated"
    index, owners = spread_windows(dataset, config.windows, ahead, acted, episodes)
    batches = range(0, len(index), config.batch_size)
    for first in track(batches, "predict windows"):
        part = slice(first, first + config.batch_size)
        collector.add(dataset, index[part], owners[part])
    return replace(
        unmeasured(design, dataset, config),
        rows=collector.rows(),
        distances=collector.distances(),
        windows=len(index),
        episodes=len(np.unique(owners)),
        wall_s=time.perf_counter() - begin,
        notes=collector.notes(),
    )


def unmeasured(design: Design, dataset: Dataset, config: PredictionConfig) -> Prediction:
    """Prediction of a design whose futures are not measured, as of a policy that predicts none."""
    return Prediction(
        name=design.name,
        design=design.describe(),
        actions=config.actions,
        rows=(),
        distances=(),
        windows=0,
        episodes=0,
        budget=draccus.encode(config.budget),
        seed=config.seed,
        dataset=dataset.fingerprint(),
        versions=versions(),
        device=device_names(next(design.parameters()).device),
        wall_s=0.0,
    )


def actions_followed(design: Design, config: PredictionConfig) -> Actions:
    """Actions that the predicted futures follow: those of the config, or of a world model the demonstrated ones."""
    return "demonstrated" if ACTION in design.config.given else config.actions


@dataclass(frozen=True)
class WindowOutcome:
    """Predicted values of a future stream beside what followed in the demonstrations.

    Attributes:
        predicted: values (B, T, ...) of the prediction.
        true: values (B, T, ...) of the ground truth, in the same substrate.
        observed: observation of the T steps.
        now: observation at the call, one step.
        episodes: episode number of each window, (B,).
    """

    predicted: Tensor
    true: Tensor
    observed: Observation
    now: Observation
    episodes: NDArray[np.int64]


@final
class Collector:
    """Collects all measures of a design, batch by batch."""

    def __init__(
        self, design: Design, config: PredictionConfig, extractors: Sequence[FeatureExtractor]
    ) -> None:
        self.design, self.config = design, config
        self.device = next(design.parameters()).device
        stride = design.config.stride
        self._direct = {name: ArmComparison(name, *steps_of(design, name)) for name in design.config.futures}
        self._steps = [stride * k for k in range(1, config.steps + 1)]
        calls = range(1, config.steps + 1)
        self._rolled = {
            name: ArmComparison(name, self._steps, "ticks", calls) for name in design.config.futures
        }
        self._features = FeatureDistances(design, extractors)
        self._texts = TextAnswers(design, config.budget)

    def add(self, dataset: Dataset, index: NDArray[np.int64], episodes: NDArray[np.int64]) -> None:
        """Predict the windows at these frames and compare them with the ground truth."""
        design = self.design
        batch = to_device(dataset.windows(index, design.training_window), self.device)
        seeds = [row_seed(self.config.seed, "frame", int(i)) for i in index]
        predicted = predict_futures(design, batch, self.config, seeds)
        targets, now = design.targets(batch), batch.observation.steps([-1])
        for name, comparison in self._direct.items():
            observed = read_source(batch, design.config, design.training_window, name)
            outcome = WindowOutcome(predicted[name], targets[name].values, observed, now, episodes)
            arms = self._compare(comparison, outcome)
            if comparison.clock == "ticks":
                self._features.add(name, comparison.steps, arms, observed)
        self._texts.add(batch, seeds)
        if self.config.steps > 1:
            self._add_rolled(dataset, index, episodes, seeds)

    def _add_rolled(
        self,
        dataset: Dataset,
        index: NDArray[np.int64],
        episodes: NDArray[np.int64],
        seeds: Sequence[int],
    ) -> None:
        design, stride, horizon = self.design, self.design.config.stride, self.design.config.horizon
        window = replace(
            design.training_window,
            future=tuple(self._steps),
            horizon=stride * (self.config.steps - 1) + horizon,
        )
        batch = to_device(dataset.windows(index, window), self.device)

        def demonstrated(step: int, _: Sequence[Forecast]) -> Tensor:
            start = batch.past + step * stride
            return batch.action[:, start : start + horizon]

        forecasts = unroll(
            design,
            batch.acting(design.window),
            design.initial_state(len(index)),
            self.config.steps,
            seeds=seeds,
            budget=self.config.budget,
            choose=demonstrated if self.config.actions == "demonstrated" else None,
        )
        observed, now = future_of(batch), batch.observation.steps([-1])
        for name, comparison in self._rolled.items():
            values = torch.cat([forecast.future[name][:, :1] for forecast in forecasts], dim=1)
            true = design.substrate(name).encode(observed, now)
            self._compare(comparison, WindowOutcome(values, true, observed, now, episodes))

    def _compare(self, comparison: ArmComparison, outcome: WindowOutcome) -> dict[str, Mapping[str, Reading]]:
        """Add an outcome to a comparison; returns the readings of all arms and of the ground truth."""
        substrate, now = self.design.substrate(comparison.stream), outcome.now
        repeated = [0] * outcome.true.shape[1]
        ideal = substrate.readings(outcome.true)
        still = substrate.readings(substrate.encode(now, now)[:, repeated])
        arms = {
            "model": substrate.readings(outcome.predicted),
            "copy": real_pictures(still, now.steps(repeated)),
            "ideal": ideal,
        }
        truth = real_pictures(ideal, outcome.observed)
        comparison.add(arms, truth, outcome.observed.pad, outcome.episodes)
        return {**arms, "truth": truth}

    def rows(self) -> tuple[PredictionRow, ...]:
        """Rows of all measures."""
        rolled = self._rolled.values() if self.config.steps > 1 else ()
        return tuple(row for c in (*self._direct.values(), *rolled) for row in c.rows(self.config.seed))

    def distances(self) -> tuple[Distance, ...]:
        """All Frechet distances."""
        return self._features.distances(self.config.seed)

    def notes(self) -> tuple[str, ...]:
        """Remarks that the reader of the report must see."""
        graph, notes = self.design.graph, []
        if ACTION in graph.known:
            notes.append(
                "the design follows a given action: it is given the demonstrated ones, which lead to the ground truth"
            )
        notes += [
            f"future {name!r} does not depend on actions, so the demonstrated actions change nothing"
            for name in self.design.config.futures
            if self.config.actions == "demonstrated" and not graph.follows(name)
        ]
        return (*notes, *self._texts.notes())


def steps_of(design: Design, stream: str) -> tuple[tuple[int, ...], Literal["ticks", "milestone"]]:
    """Labels of a future's steps and their unit: control ticks, or numbers of milestones from 1."""
    future = design.config.futures[stream]
    if future.milestones:
        return tuple(range(1, future.milestones + 1)), "milestone"
    return future.offsets, "ticks"


@torch.no_grad()
def predict_futures(
    design: Design, batch: Batch, config: PredictionConfig, seeds: Sequence[int]
) -> dict[str, Tensor]:
    """One call: future stream -> values (B, T, ...), given the demonstrated actions where the config says so.

    Goals that the design is given are those of the demonstrations.
    """
    observation = batch.acting(design.window)
    context = design.encode_context(observation)
    state = design.observe(observation, design.initial_state(observation.batch_size), context)
    follow = config.actions == "demonstrated"
    truth = design.targets(batch) if follow or design.config.given else {}
    streams = {*design.config.given, *(design.graph.executed if follow else ())} & set(truth)
    futures, given = sorted(design.config.futures), {name: truth[name].values for name in sorted(streams)}
    executed = [name for name in design.graph.executed if name in design.streams and name not in given]
    sampled = design.sample(
        observation,
        [*executed, *futures],
        seeds=seeds,
        given=given,
        budget=config.budget,
        carry=state,
        context=context,
    )
    return {name: sampled.values[name] for name in futures}


def closed_loop_rows(strips: Sequence[Filmstrip], seed: int = 0) -> tuple[PredictionRow, ...]:
    """PSNR and SSIM of the futures imagined in filmed episodes, against the frames that were then rendered.

    Args:
        strips: filmstrips of a report. Their ``ideal`` arm is the real frame itself, since a strip does not record
            the reconstruction by its codec.
        seed: seed of the bootstrap over episodes.
    """
    episodes = {key: i for i, key in enumerate(dict.fromkeys((s.task, s.seed) for s in strips))}
    offsets = tuple(sorted({offset for strip in strips for offset in strip.offsets}))
    rows: list[PredictionRow] = []
    for camera in dict.fromkeys(strip.camera for strip in strips):
        comparison = ArmComparison("closed loop", offsets)
        for strip in (s for s in strips if s.camera == camera):
            positions = [offsets.index(offset) for offset in strip.offsets]
            pad = torch.ones(1, len(offsets), dtype=torch.bool)
            pad[0, positions] = False
            pictures = (strip.imagined, np.broadcast_to(strip.now, strip.real.shape), strip.real)
            model, copy, real = (on_grid(camera, frames, positions, len(offsets)) for frames in pictures)
            arms = {"model": model, "copy": copy, "ideal": real}
            comparison.add(arms, real, pad, np.array([episodes[strip.task, strip.seed]]))
        rows += comparison.rows(seed)
    return tuple(rows)


def on_grid(camera: str, frames: NDArray[np.uint8], positions: list[int], steps: int) -> dict[str, Reading]:
    """Reading of one window with the frames (F, h, w, 3) uint8 at ``positions`` of its ``steps``; black elsewhere."""
    picture = torch.zeros(1, steps, 3, *frames.shape[1:3])
    picture[0, positions] = torch.from_numpy(np.array(frames)).movedim(-1, 1).float() / 255
    return {camera: Reading("picture", picture)}
