"""Future features of one or several frozen teachers (`ps.teacher-feature`, eq. 14, 28)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, final

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.contract.protocols import Category, DataSpec, Substrate, SubstrateConfig, Windows
from wamkit.contract.scales import Scale
from wamkit.contract.streams import StreamSpec
from wamkit.contract.types import Observation, WindowSpec
from wamkit.errors import ConfigError
from wamkit.substrates.teachers import SelfTrainedConfig, Teacher, TeacherConfig


@SubstrateConfig.register_subclass("teacher_feature")
@dataclass(frozen=True)
class TeacherFeatureConfig(SubstrateConfig):
    """Future features of one or several frozen teachers, by default one trained here (survey eqs. 14, 28).

    Attributes:
        features: D, features that every teacher is projected to.
        grid: tokens per side, view and teacher.
        steps, batch_size, gap: of the teacher that is trained on the dataset when no others are named.
        teachers: name -> teacher; empty for that one.
    """

    features: int = 32
    grid: int = 4
    steps: int = 200
    batch_size: int = 48
    gap: int = 4
    teachers: dict[str, TeacherConfig] = field(default_factory=dict)

    @override
    def build(self, data: DataSpec) -> TeacherFeature:
        """Build the substrate with an untrained teacher; raises :class:`ConfigError` without a camera."""
        if not data.observation.cameras:
            raise ConfigError(
                "substrate 'teacher_feature': the dataset has no camera. Choose another substrate."
            )
        own = {"own": SelfTrainedConfig(self.steps, self.batch_size, self.gap)}
        teachers = [c.build(self.features, self.grid) for c in (self.teachers or own).values()]
        return TeacherFeature(self, teachers, data)


@final
class TeacherFeature(Substrate):
    """(B, T, views * teachers * grid * grid, D), every feature standardised. It has no decoder."""

    category: ClassVar[Category] = "feature"
    variant: ClassVar[str] = "teacher"
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: TeacherFeatureConfig, teachers: list[Teacher], data: DataSpec) -> None:
        super().__init__()
        self.config = config
        self.cameras = tuple(sorted(data.observation.cameras))
        self.teacher, self.others = teachers[0], nn.ModuleList(teachers[1:])
        self.requires_grad_(False)
        # Flat, teacher after teacher.
        self.register_buffer("mean", torch.zeros(len(teachers) * config.features))
        self.register_buffer("deviation", torch.ones(len(teachers) * config.features))

    @property
    def teachers(self) -> list[Teacher]:
        """All teachers, in the order of the config."""
        return [self.teacher, *(t for t in self.others if isinstance(t, Teacher))]

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        tokens = len(self.cameras) * len(self.teachers) * self.config.grid**2
        return StreamSpec(name, role, steps, tokens, self.config.features)

    @override
    def grids(self) -> Scale:
        side = self.config.grid
        return ((side, side),) * (len(self.cameras) * len(self.teachers))

    def _features(self, images: Tensor) -> Tensor:
        """(M, 3, h, w) uint8 -> (M, teachers, grid * grid, D), not standardised."""
        return torch.stack([teacher.look(images) for teacher in self.teachers], dim=1)

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        """(B, T) frames -> (B, T, N, D) with zero mean and unit variance per teacher and feature."""
        mean, deviation = (v.unflatten(0, (-1, 1, self.config.features)) for v in (self.mean, self.deviation))
        rows = []
        for camera in self.cameras:
            images = observation.images[camera]
            features = (self._features(images.flatten(0, 1)) - mean) / deviation
            rows.append(features.flatten(1, 2).unflatten(0, images.shape[:2]))
        return torch.cat(rows, dim=2)

    @override
    def fit(self, windows: Windows, seed: int) -> None:
        """Train or project every teacher, then freeze and standardise them."""
        rng = np.random.default_rng(seed)
        for teacher in self.teachers:
            teacher.fit(windows, self.cameras, rng, seed)
        self._standardise(windows, rng)

    @torch.no_grad()
    def _standardise(self, windows: Windows, rng: np.random.Generator) -> None:
        index = np.sort(rng.integers(windows.num_frames, size=min(256, windows.num_frames)))
        images = windows.windows(index, WindowSpec(horizon=1)).observation.images
        features = torch.cat([self._features(images[c][:, 0].to(self.mean.device)) for c in self.cameras])
        every = features.transpose(0, 1).flatten(1, 2)  # (teachers, frames * tokens, D)
        self.mean = every.mean(dim=1).flatten()
        self.deviation = every.std(dim=1).clamp(min=1e-4).flatten()
