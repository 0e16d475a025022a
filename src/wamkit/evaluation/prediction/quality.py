"""Measure a design's predictions on demonstrations, and those it made in a closed loop."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, final

import draccus
import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from wamkit.contract.protocols import DataSpec, Substrate, SubstrateConfig
from wamkit.contract.specs import ACTION
from wamkit.contract.streams import Reading, row_seed
from wamkit.contract.types import Batch, Budget, Forecast, Observation, to_device
from wamkit.data import Dataset
from wamkit.design import Design
from wamkit.design.observed import read_source
from wamkit.errors import ConfigError, DataError
from wamkit.evaluation.prediction.frechet import frechet
from wamkit.evaluation.prediction.prediction import (
    ArmComparison,
    Distance,
    Prediction,
    PredictionRow,
    real_pictures,
)
from wamkit.evaluation.prediction.windows import acting, spread_windows
from wamkit.evaluation.report.filmstrip import Filmstrip
from wamkit.evaluation.report.machine import device_names, versions
from wamkit.imagination.unrolling import check_unrollable, unroll, world_step

Actions = Literal["own", "demonstrated"]


@dataclass(frozen=True)
class PredictionConfig:
    """What is measured.

    Attributes:
        windows: windows per episode, spread evenly.
        batch_size: windows per call.
        actions: what the predicted future follows: the design's ``own`` actions, as when it acts, or the
            ``demonstrated`` ones, which led to the truth.
        steps: model steps; more than one rolls the design on from what it predicted, a stride per step, which only
            designs that keep a past can.
        features: name -> substrate whose features measure the Frechet distance of futures that decode to pictures,
            fitted on the demonstrations.
        budget: what each call may spend.
        seed: of the noise of the predictions and of the bootstrap.
    """

    windows: int = 8
    batch_size: int = 16
    actions: Actions = "own"
    steps: int = 1
    features: dict[str, SubstrateConfig] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.windows < 1 or self.batch_size < 1 or self.steps < 1:
            raise ConfigError(
                f"prediction: windows, batch_size and steps must be at least 1, got {self.windows}, "
                f"{self.batch_size} and {self.steps}"
            )


def measure_prediction(
    design: Design, dataset: Dataset, data: DataSpec, config: PredictionConfig, progress: bool = False
) -> Prediction:
    """Predict windows of every episode and compare with what came.

    Args:
        design: in evaluation mode.
        dataset: demonstrations, best held out, with the extras that the design reads.
        data: what a design would know of them, to build ``config.features`` for.
        config: what is measured.
        progress: whether to draw a progress bar.

    Raises:
        ConfigError: the design predicts no future; or it cannot be rolled on; or ``features`` do not read pictures.
        DataError: no episode has a future.
    """
    if not design.config.futures:
        raise ConfigError(
            f"design {design.name!r} ({design.factorisation()}) predicts no future to be measured"
        )
    if config.steps > 1:
        check_unrollable(design, config.budget)
    begin = time.perf_counter()
    eyes = [Eye(name, part, data, dataset, config.seed) for name, part in config.features.items()]
    collected = Collector(design, config, eyes)
    ahead = max(design.training_window.future, default=1)
    index, episodes = spread_windows(dataset, config.windows, max(ahead, config.steps * design.config.stride))
    batches = range(0, len(index), config.batch_size)
    for first in track(batches, "predict", disable=not progress, transient=True):
        part = slice(first, first + config.batch_size)
        collected.add(dataset, index[part], episodes[part])
    return Prediction(
        name=design.name,
        design=design.describe(),
        actions=config.actions,
        rows=collected.rows(),
        distances=collected.distances(),
        windows=len(index),
        episodes=int(episodes[-1]) + 1,
        budget=draccus.encode(config.budget),
        seed=config.seed,
        dataset=dataset.fingerprint(),
        versions=versions(),
        device=device_names(next(design.parameters()).device),
        wall_s=time.perf_counter() - begin,
        notes=collected.notes(),
    )


@final
class Eye:
    """Features of pictures, by a substrate that was fitted on the demonstrations."""

    def __init__(
        self, name: str, config: SubstrateConfig, data: DataSpec, dataset: Dataset, seed: int
    ) -> None:
        self.name = name
        self.substrate = config.build(data)
        if self.substrate.extras or self.substrate.relative or self.substrate.moving:
            raise ConfigError(
                f"features {self.name!r} cannot be read off a picture alone. Choose a substrate of pictures, such as "
                f"'teacher_feature'."
            )
        self.cameras = tuple(sorted(data.observation.cameras))
        self.substrate.fit(dataset, seed)
        self.substrate.eval()

    def look(self, pictures: Mapping[str, Tensor], like: Observation) -> Tensor:
        """Camera -> (B, T, 3, h, w) in [0, 1], gives features (B, T, N, D)."""
        missing = [camera for camera in self.cameras if camera not in pictures]
        if missing:
            raise ConfigError(f"features {self.name!r} look at {missing}, which the future does not show")
        levels = {c: (pictures[c].cpu() * 255).round().to(torch.uint8) for c in self.cameras}
        return self.substrate.encode(replace(like, images=levels))


@final
class Collector:
    """Everything that is measured, window by window."""

    def __init__(self, design: Design, config: PredictionConfig, eyes: Sequence[Eye]) -> None:
        self.design, self.config, self.eyes = design, config, eyes
        self.device = next(design.parameters()).device
        stride = design.config.stride
        self._direct = {name: ArmComparison(name, *steps_of(design, name)) for name in design.config.futures}
        self._steps = [stride * k for k in range(1, config.steps + 1)]
        calls = range(1, config.steps + 1)
        self._rolled = {
            name: ArmComparison(name, self._steps, "ticks", calls) for name in design.config.futures
        }
        self._features: dict[tuple[str, str, int], list[dict[str, NDArray[np.float64]]]] = {}

    def add(self, dataset: Dataset, index: NDArray[np.int64], episodes: NDArray[np.int64]) -> None:
        """Predict and compare the windows at these frames."""
        design = self.design
        batch = to_device(dataset.windows(index, design.training_window), self.device)
        seeds = [row_seed(self.config.seed, "frame", int(i)) for i in index]
        predicted = predict_futures(design, batch, self.config, seeds)
        truth = design.targets(batch)
        for name, compare in self._direct.items():
            seen, target = read_source(batch, design.config, design.training_window, name), truth[name]
            self._compare(name, compare, predicted[name], target.values, seen, batch, episodes)
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

        def demonstrated(step: int, made: Sequence[Forecast]) -> Tensor:
            start = batch.past + step * stride
            return batch.action[:, start : start + horizon]

        rows = len(index)
        made = unroll(
            design,
            acting(design, batch),
            design.initial_state(rows),
            self.config.steps,
            seeds=seeds,
            budget=self.config.budget,
            choose=demonstrated if self.config.actions == "demonstrated" else None,
        )
        assert batch.future is not None
        for name, compare in self._rolled.items():
            values = torch.cat([forecast.future[name][:, :1] for forecast in made], dim=1)
            now = batch.observation.steps([-1])
            target = substrate_of(design, name).encode(batch.future, now)
            self._compare(name, compare, values, target, batch.future, batch, episodes, rolled=True)

    def _compare(
        self,
        name: str,
        compare: ArmComparison,
        values: Tensor,
        target: Tensor,
        seen: Observation,
        batch: Batch,
        episodes: NDArray[np.int64],
        rolled: bool = False,
    ) -> None:
        substrate, now = substrate_of(self.design, name), batch.observation.steps([-1])
        steps = target.shape[1]
        held = now.steps([0] * steps)
        still = substrate.encode(now, now)[:, [0] * steps]
        ideal = substrate.readings(target)
        arms = {
            "model": substrate.readings(values),
            "copy": real_pictures(substrate.readings(still), held),
            "ideal": ideal,
        }
        real = real_pictures(ideal, seen)
        compare.add(arms, real, seen.pad, episodes)
        if not rolled and compare.clock == "ticks":
            self._keep_features(name, compare.steps, {**arms, "truth": real}, seen)

    def _keep_features(
        self,
        name: str,
        steps: Sequence[int],
        arms: Mapping[str, Mapping[str, Reading]],
        seen: Observation,
    ) -> None:
        keep = (~seen.pad).cpu().numpy()
        found: dict[str, dict[str, Tensor]] = {}
        for arm in ("model", "copy", "truth"):
            readings = arms[arm]
            for reading in readings.values():
                if reading.kind == "feature" and reading.known is None:
                    kind = self.design.config.substrates[self.design.config.substrate_of(name)]
                    found.setdefault(kind.get_choice_name(type(kind)), {})[arm] = reading.values
            pictures = {c: r.values for c, r in readings.items() if r.kind == "picture" and c in seen.images}
            for eye in self.eyes if pictures else ():
                found.setdefault(eye.name, {})[arm] = eye.look(pictures, seen)
        for features, sets in found.items():
            pooled = {arm: values.mean(dim=2).double().cpu().numpy() for arm, values in sets.items()}
            for i, step in enumerate(steps):
                part = {arm: values[keep[:, i], i] for arm, values in pooled.items()}
                self._features.setdefault((name, features, step), []).append(part)

    def rows(self) -> tuple[PredictionRow, ...]:
        """All measures."""
        rolled = self._rolled.values() if self.config.steps > 1 else ()
        return tuple(row for c in (*self._direct.values(), *rolled) for row in c.rows(self.config.seed))

    def distances(self) -> tuple[Distance, ...]:
        """All Frechet distances."""
        found = []
        for (stream, features, step), parts in self._features.items():
            sets = {arm: np.concatenate([part[arm] for part in parts]) for arm in parts[0]}
            found.append(fidelity_distance(stream, features, step, sets, self.config.seed))
        return tuple(found)

    def notes(self) -> tuple[str, ...]:
        """What a reader must know."""
        graph, found = self.design.graph, []
        for name in self.design.config.futures:
            together = graph.factor_of(name).generates
            blind = ACTION not in together and ACTION not in graph.ancestors([name])
            if self.config.actions == "demonstrated" and blind:
                found.append(
                    f"future {name!r} does not depend on actions, so the demonstrated ones change nothing"
                )
        return tuple(found)


def steps_of(design: Design, stream: str) -> tuple[tuple[int, ...], Literal["ticks", "milestone"]]:
    """What the steps of a future are called: (ticks or milestones, which)."""
    future = design.config.futures[stream]
    if future.milestones:
        return tuple(range(1, future.milestones + 1)), "milestone"
    return future.offsets, "ticks"


def substrate_of(design: Design, stream: str) -> Substrate:
    """The substrate that a future stream lives in."""
    substrate = design.substrates[design.config.substrate_of(stream)]
    assert isinstance(substrate, Substrate)
    return substrate


@torch.no_grad()
def predict_futures(
    design: Design, batch: Batch, config: PredictionConfig, seeds: Sequence[int]
) -> dict[str, Tensor]:
    """One call: future stream -> values (B, T, ...), given the demonstrated actions where the config says so."""
    observation = acting(design, batch)
    context = design.encode_context(observation)
    state = design.observe(observation, design.initial_state(observation.batch_size), context)
    action = batch.action[:, batch.past :] if config.actions == "demonstrated" else None
    forecast = world_step(
        design, observation, action, seeds=seeds, budget=config.budget, carry=state, context=context
    )
    return dict(forecast.future)


def fidelity_distance(
    stream: str, features: str, step: int, sets: Mapping[str, NDArray[np.float64]], seed: int
) -> Distance:
    """Frechet distances of one stream and step; without enough samples a note says so in place of a number."""
    truth, name = sets["truth"], f"frechet[{features}]"
    n, width = truth.shape
    order = np.random.default_rng(seed).permutation(n)
    first, second = truth[order[: n // 2]], truth[order[n // 2 :]]
    try:
        model, copy = (frechet(sets[arm], truth, features) for arm in ("model", "copy"))
    except DataError as error:
        return Distance(name, stream, step, n, width, None, None, None, str(error))
    floor = frechet(first, second, features) if n // 2 > width else None
    return Distance(name, stream, step, n, width, model, copy, floor)


def closed_loop_rows(strips: Sequence[Filmstrip], seed: int = 0) -> tuple[PredictionRow, ...]:
    """PSNR and SSIM of the futures that were imagined in filmed episodes, against what was then rendered.

    Args:
        strips: of a report. ``ideal`` is the real frame itself: a strip does not know what its codec could show.
        seed: of the bootstrap over episodes.
    """
    episodes = {key: i for i, key in enumerate(dict.fromkeys((s.task, s.seed) for s in strips))}
    offsets = tuple(sorted({offset for strip in strips for offset in strip.offsets}))
    found: list[PredictionRow] = []
    for camera in dict.fromkeys(strip.camera for strip in strips):
        compare = ArmComparison("closed loop", offsets)
        for strip in (s for s in strips if s.camera == camera):
            where = [offsets.index(offset) for offset in strip.offsets]
            pad = torch.ones(1, len(offsets), dtype=torch.bool)
            pad[0, where] = False
            pictures = (strip.imagined, np.broadcast_to(strip.now, strip.real.shape), strip.real)
            model, copy, real = (on_grid(camera, frames, where, len(offsets)) for frames in pictures)
            arms = {"model": model, "copy": copy, "ideal": real}
            compare.add(arms, real, pad, np.array([episodes[strip.task, strip.seed]]))
        found += compare.rows(seed)
    return tuple(found)


def on_grid(camera: str, frames: NDArray[np.uint8], where: list[int], steps: int) -> dict[str, Reading]:
    """(F, h, w, 3) uint8 at the steps ``where`` of ``steps`` -> a reading of one window, black elsewhere."""
    picture = torch.zeros(1, steps, 3, *frames.shape[1:3])
    picture[0, where] = torch.from_numpy(np.array(frames)).movedim(-1, 1).float() / 255
    return {camera: Reading("picture", picture)}
