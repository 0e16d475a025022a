"""Future features of a frozen teacher (`ps.teacher-feature`, eq. 14, 28)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wamkit.errors import ConfigError
from wamkit.protocols import Category, DataSpec, Substrate, SubstrateConfig, Windows
from wamkit.streams import StreamSpec
from wamkit.types import Observation, WindowSpec


@SubstrateConfig.register_subclass("teacher_feature")
@dataclass(frozen=True)
class TeacherFeatureConfig(SubstrateConfig):
    """Future features of a frozen VICReg teacher trained on the dataset (survey eqs. 14, 28).

    Attributes:
        features: D of the feature map.
        grid: tokens per side and view.
        steps: self-supervised training steps.
        batch_size: pairs of frames per step.
        gap: ticks between the two frames of a pair.
    """

    features: int = 32
    grid: int = 4
    steps: int = 200
    batch_size: int = 48
    gap: int = 4

    def build(self, data: DataSpec) -> TeacherFeature:
        """Build the substrate with an untrained teacher; raises :class:`ConfigError` without a camera."""
        if not data.observation.cameras:
            raise ConfigError(
                "substrate 'teacher_feature': the dataset has no camera. Choose another substrate."
            )
        return TeacherFeature(self, data)


def vicreg(a: Tensor, b: Tensor) -> Tensor:
    """Variance-invariance-covariance loss of two views (M, D) (Bardes et al. 2022, eq. 1-4; 25/25/1)."""
    invariance = F.mse_loss(a, b)
    loss = 25 * invariance
    for z in (a, b):
        z = z - z.mean(dim=0)
        deviation = (z.var(dim=0) + 1e-4).sqrt()
        covariance = z.T @ z / (len(z) - 1)
        off_diagonal = covariance - torch.diag(covariance.diagonal())
        loss = loss + 25 * F.relu(1 - deviation).mean() + off_diagonal.square().sum() / z.shape[1]
    return loss


@final
class TeacherFeature(Substrate):
    """Standardised feature map of a frozen encoder: (B, T, views * grid * grid, D). It has no decoder."""

    category: ClassVar[Category] = "feature"
    variant: ClassVar[str] = "teacher"
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: TeacherFeatureConfig, data: DataSpec) -> None:
        super().__init__()
        self.config = config
        self.cameras = tuple(sorted(data.observation.cameras))
        d = config.features
        self.teacher = nn.Sequential(
            nn.Conv2d(3, 32, 5, stride=4, padding=2),
            nn.GELU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(64, d, 3, stride=1, padding=1),
            nn.AdaptiveAvgPool2d(config.grid),
        )
        self.teacher.requires_grad_(False)
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("deviation", torch.ones(d))

    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        """See :class:`wamkit.protocols.Substrate`."""
        tokens = len(self.cameras) * self.config.grid**2
        return StreamSpec(name, role, steps, tokens, self.config.features)

    def _features(self, images: Tensor) -> Tensor:
        """(M, 3, h, w) uint8 -> (M, grid * grid, D), not standardised."""
        return self.teacher(images.float() / 127.5 - 1).flatten(2).transpose(1, 2)

    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        """(B, T) frames -> (B, T, N, D) with zero mean and unit variance per feature."""
        rows = []
        for camera in self.cameras:
            images = observation.images[camera]
            features = (self._features(images.flatten(0, 1)) - self.mean) / self.deviation
            rows.append(features.unflatten(0, images.shape[:2]))
        return torch.cat(rows, dim=2)

    def fit(self, windows: Windows, seed: int) -> None:
        """Train the teacher with VICReg on frames ``gap`` ticks apart, then freeze it and standardise."""
        rng = np.random.default_rng(seed)
        spec = WindowSpec(observation=(-self.config.gap, 0), horizon=1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # the head's weights follow the seed, not what was drawn before
            head = nn.Sequential(
                nn.Flatten(),
                nn.Linear(self.config.features * self.config.grid**2, 128),
                nn.GELU(),
                nn.Linear(128, 64),
            ).to(self.mean.device)
        self.teacher.requires_grad_(True)
        parameters = [*self.teacher.parameters(), *head.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=1e-3)
        for _ in range(self.config.steps):
            index = np.sort(rng.integers(windows.num_frames, size=self.config.batch_size))
            images = windows.windows(index, spec).observation.images
            camera = self.cameras[rng.integers(len(self.cameras))]
            pair = images[camera].to(self.mean.device)
            loss = vicreg(head(self._features(pair[:, 0])), head(self._features(pair[:, 1])))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        self.teacher.requires_grad_(False)
        self.teacher.zero_grad(set_to_none=True)  # no stale gradient may enter the design's gradient norm
        self._standardise(windows, rng)

    @torch.no_grad()
    def _standardise(self, windows: Windows, rng: np.random.Generator) -> None:
        index = np.sort(rng.integers(windows.num_frames, size=min(256, windows.num_frames)))
        images = windows.windows(index, WindowSpec(horizon=1)).observation.images
        features = torch.cat([self._features(images[c][:, 0].to(self.mean.device)) for c in self.cameras])
        self.mean = features.flatten(0, 1).mean(dim=0)
        self.deviation = features.flatten(0, 1).std(dim=0).clamp(min=1e-4)
