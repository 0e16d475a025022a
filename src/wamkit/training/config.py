"""Config of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np

from wamkit.augmentations import PRESETS, Preset
from wamkit.config.ranges import Count, Decay, NonNegative, Positive, Range, Seed, Size, Whole, Word, Words
from wamkit.config.values import Config
from wamkit.contract.augmenting import AugmentConfig
from wamkit.design.config import DesignConfig
from wamkit.errors import ConfigError
from wamkit.training.balance import Ramp
from wamkit.training.distill import DistillConfig
from wamkit.training.imagined import ImaginedConfig
from wamkit.training.optim import OptimConfig

DATASET = Path("runs/demo/data")


@dataclass(frozen=True)
class SourceConfig(Config):
    """Dataset of one robot in a mixture.

    Attributes:
        dataset: its folder.
        weight: share of the windows that are drawn from it, relative to the other weights.
        ramps: schedules of factors on the weight. A ramp that ends where it begins divides two stages of a training.
    """

    dataset: Path = DATASET
    weight: Positive = 1.0
    ramps: tuple[Ramp, ...] = ()

    def at(self, step: int) -> float:
        """Weight at ``step``."""
        return math.prod((self.weight, *(ramp.at(step) for ramp in self.ramps)))


@dataclass(frozen=True)
class TrainConfig(Config):
    """One training run.

    Attributes:
        dataset: folder of a LeRobotDataset v3.0, or of another layout that is read. Not with ``mixture``.
        out: folder of the run: ``model/`` (final weights), ``best/`` (those with the lowest held-out loss),
            ``checkpoints/``, ``log.jsonl``, ``config.json``, ``data.json`` (fingerprints of what is read),
            ``about.json`` (tuple, formula, versions, commit).
        design: design to train.
        optim: optimiser and schedule.
        augment: changes of the training windows, applied in order; none without an entry. A name stands for the
            operations of :data:`wamkit.augmentations.PRESETS` and is replaced by them.
        augment_from: share of the steps before the first whose windows are augmented. A design that has not learned to
            read its pictures yet learns to do without them when they vary (docs/augmentation.md).
        pretrained: checkpoint folder or hub id to start from, instead of random weights. Its statistics replace those
            of the dataset. Of a mixture, those of the robots that it knows by name; a new one has its dataset's.
        fresh: names of everything that ``design`` has and ``pretrained`` lacks, or beginnings of such names up to a
            dot (``encoders.teacher``).
        distill: compression of ``pretrained`` into few steps, instead of training on the demonstrations.
        imagined: training on imagined rollouts of the policy, beside the demonstrations.
        steps: number of optimiser steps.
        batch_size: windows per step.
        seed: seed of weights, batches and noise.
        checkpoint_every: steps between checkpoints, besides the one at the end; 0 writes only that one.
        log_every: steps between log lines.
        held_out: episodes that are never learned from, as a share of all below 1 or as their number from 1 on, drawn
            with the seed; 0 for none. Of a mixture, the same of every robot. Their loss is logged, and the weights with
            the lowest are kept in ``best/``.
        evaluate_every: steps between two measurements of the held-out loss, besides the one at the end; 0 for only
            that one.
        writers: further places that the figures of ``log.jsonl`` are written to: ``tensorboard``, ``wandb``. Each is an
            extra of this name.
        ramps: stream -> schedule of a factor on the weight of its loss.
        gradient_norms: true to log the gradient norm of each loss on the trunks (``grad.<stream>``). It costs one more
            backward pass per loss in every logged step.
        device: torch device, such as cpu or cuda:0.
        threads: number of torch threads; 1 is fastest when processes share the cores.
        image_memory_gb: memory limit for decoded frames, GiB. Frames beyond it are decoded whenever they are needed.
        frame_cache_gb: largest size of the cache of decoded frames on disk, GiB; 0 for no cache. It holds datasets of
            which decoding takes long, in the folder that the environment variable ``WAMKIT_CACHE`` names.
        robot: robot of ``pretrained``, a model of several, that ``dataset`` is of; null to find it by its specs.
        mixture: name of a robot -> its dataset and weight, to train one design on several. Each is seen through
            ``design.views`` of its name.
    """

    dataset: Path = DATASET
    out: Path = Path("runs/train")
    design: DesignConfig = field(default_factory=DesignConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    augment: Preset | tuple[AugmentConfig, ...] = ()
    augment_from: Decay = 0.5
    pretrained: Word | None = None
    fresh: Words = ()
    distill: DistillConfig | None = None
    imagined: ImaginedConfig | None = None
    steps: Count = 2000
    batch_size: Size = 32
    seed: Seed = 0
    checkpoint_every: Whole = 500
    log_every: Count = 20
    held_out: NonNegative = 0.0
    evaluate_every: Whole = 500
    writers: Words = ()
    ramps: dict[str, Ramp] = field(default_factory=dict)
    gradient_norms: bool = False
    device: Word = "cpu"
    threads: Annotated[int, Range(1, 1024)] = 1
    image_memory_gb: Positive = 4.0
    frame_cache_gb: NonNegative = 20.0
    robot: Word | None = None
    mixture: dict[str, SourceConfig] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.distill is not None and self.imagined is not None:
            raise ConfigError(
                "distill and imagined are two objectives of one run; train one after the other, `pretrained` by it"
            )
        if self.robot is not None and self.pretrained is None:
            raise ConfigError(f"robot {self.robot!r}: names a robot of `pretrained`, which is not given.")
        if self.mixture:
            if self.dataset != DATASET:
                raise ConfigError(f"dataset {self.dataset} and mixture: choose one of the two.")
            if self.imagined is not None:
                raise ConfigError(
                    "mixture: rollouts are imagined of one robot. Leave `imagined` out; train on one robot afterwards, "
                    "with this run's model in `pretrained`."
                )
            if self.robot is not None:
                raise ConfigError(
                    f"robot {self.robot!r} and mixture: the names in `mixture` are those of the robots."
                )
            self._check_weights()
        # The operations themselves belong to what a run is begun with, not a name that may mean others later.
        object.__setattr__(self, "augment", self.operations)

    def _check_weights(self) -> None:
        """Raise :class:`ConfigError` when nothing has a weight at some step."""
        ramps = [ramp for source in self.mixture.values() for ramp in source.ramps]
        corners = {
            step for ramp in ramps for end in (ramp.begin, ramp.end) for step in (end - 1, end, end + 1)
        }
        for step in sorted({0, *corners, self.steps - 1}):  # between them weights rise or fall
            if 0 <= step < self.steps and not any(source.at(step) for source in self.mixture.values()):
                raise ConfigError(
                    f"mixture: at step {step} the ramps leave no robot any weight. Let one begin where another ends."
                )

    def source_weights(self, steps: np.ndarray) -> np.ndarray:
        """Weights (M, number of robots) of the mixture at ``steps`` (M,), in the order of the robots."""
        sources = self.mixture.values() or (SourceConfig(),)
        if not any(source.ramps for source in sources):
            return np.broadcast_to([source.weight for source in sources], (len(steps), len(sources)))
        return np.array([[source.at(step) for source in sources] for step in steps.tolist()])

    @property
    def operations(self) -> tuple[AugmentConfig, ...]:
        """Augmentations in their order."""
        return PRESETS[self.augment] if isinstance(self.augment, str) else self.augment
