"""Future features of one or several frozen teachers (`ps.teacher-feature`, eqs. 14, 28)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, final

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Count, Size
from wamkit.contract.data import DataSpec, Windows
from wamkit.contract.protocols import Category, Substrate, SubstrateConfig
from wamkit.contract.scales import Scale
from wamkit.contract.streams import StreamSpec
from wamkit.contract.types import Observation
from wamkit.nn.named import Named
from wamkit.substrates.teachers import SelfTrainedConfig, Teacher, TeacherConfig, draw_frames
from wamkit.substrates.views import chosen_cameras


@SubstrateConfig.register_subclass("teacher_feature")
@dataclass(frozen=True)
class TeacherFeatureConfig(SubstrateConfig):
    """Future features of one or several frozen teachers, by default one trained here (survey eqs. 14, 28).

    Attributes:
        features: number of features D that every teacher is projected to.
        grid: tokens per side of a view, for every teacher.
        steps: training steps of the default teacher.
        batch_size: pairs of frames per training step of the default teacher.
        gap: ticks between the two frames of a pair, for the default teacher.
        teachers: teachers by name; empty for the default, one trained on the dataset.
    """

    features: Size = 32
    grid: Size = 4
    steps: Count = 200
    batch_size: Size = 48
    gap: Count = 4
    teachers: dict[str, TeacherConfig] = field(default_factory=dict)

    @override
    def build(self, data: DataSpec) -> TeacherFeature:
        """Build with unfitted teachers; raises :class:`ConfigError` without a camera."""
        cameras = chosen_cameras((), data, "substrate 'teacher_feature'")
        own = {"own": SelfTrainedConfig(self.steps, self.batch_size, self.gap)}
        teachers = [c.build(self.features, self.grid) for c in (self.teachers or own).values()]
        return TeacherFeature(self, teachers, cameras)


@final
class TeacherFeature(Substrate):
    """Standardised features (B, T, views * teachers * grid * grid, D), without a decoder."""

    category: ClassVar[Category] = "feature"
    variant: ClassVar[str] = "teacher"
    mean: Tensor
    deviation: Tensor

    def __init__(
        self, config: TeacherFeatureConfig, teachers: list[Teacher], cameras: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.config, self.cameras = config, cameras
        self.teacher = teachers[0]
        # Named by number, as in the state dicts of checkpoints.
        self.others = Named[Teacher]({str(i): teacher for i, teacher in enumerate(teachers[1:])})
        self.requires_grad_(False)
        # Flat, one teacher after another.
        self.register_buffer("mean", torch.zeros(len(teachers) * config.features))
        self.register_buffer("deviation", torch.ones(len(teachers) * config.features))

    @property
    def teachers(self) -> list[Teacher]:
        """All teachers in the order of the config."""
        return [self.teacher, *self.others.values()]

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        tokens = len(self.cameras) * len(self.teachers) * self.config.grid**2
        return StreamSpec(name, role, steps, tokens, self.config.features)

    @override
    def grids(self) -> Scale:
        side = self.config.grid
        return ((side, side),) * (len(self.cameras) * len(self.teachers))

    def _features(self, images: Tensor) -> Tensor:
        """Features (M, teachers, grid * grid, D) of images (M, 3, h, w) uint8, not standardised."""
        return torch.stack([teacher.look(images) for teacher in self.teachers], dim=1)

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        mean, deviation = (v.unflatten(0, (-1, 1, self.config.features)) for v in (self.mean, self.deviation))
        views = []
        for camera in self.cameras:
            images = observation.view(camera)
            features = (self._features(images.flatten(0, 1)) - mean) / deviation
            views.append(features.flatten(1, 2).unflatten(0, images.shape[:2]))
        return torch.cat(views, dim=2)

    @override
    def fit(self, windows: Windows, seed: int) -> None:
        """Train or project every teacher, then freeze and standardise them."""
        rng = np.random.default_rng(seed)
        for teacher in self.teachers:
            teacher.fit(windows, self.cameras, rng, seed)
        self._standardise(windows, rng)

    @torch.no_grad()
    def _standardise(self, windows: Windows, rng: np.random.Generator) -> None:
        frames = draw_frames(windows, rng)
        features = torch.cat(
            [self._features(frames.view(c)[:, 0].to(self.mean.device)) for c in self.cameras]
        )
        tokens = features.transpose(0, 1).flatten(1, 2)  # (teachers, frames * tokens, D)
        self.mean = tokens.mean(dim=1).flatten()
        self.deviation = tokens.std(dim=1).clamp(min=1e-4).flatten()
