"""Teachers: frozen networks whose image features are prediction targets (`ps.teacher-feature`, eqs. 14, 28)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import draccus
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from wamkit.config.ranges import Count, Finite, Positive, Room, Size
from wamkit.config.values import Config
from wamkit.contract.data import Windows
from wamkit.contract.types import Observation, WindowSpec
from wamkit.errors import ConfigError, DataError
from wamkit.nn.picture_model import PictureModel, Preprocessing
from wamkit.nn.pretrained import Source, pin
from wamkit.progress import track

FIT_FRAMES = 256


def draw_frames(windows: Windows, rng: np.random.Generator) -> Observation:
    """Up to ``FIT_FRAMES`` frames drawn with replacement, as one observation of one step each."""
    index = np.sort(rng.integers(windows.num_frames, size=min(FIT_FRAMES, windows.num_frames)))
    return windows.windows(index, WindowSpec(horizon=1)).observation


@dataclass(frozen=True)
class TeacherConfig(Config, draccus.ChoiceRegistry):
    """Base of all teacher configs."""

    def build(self, features: int, grid: int) -> Teacher:
        """Build a teacher with grid x grid tokens of ``features`` features each."""
        raise NotImplementedError


class Teacher(nn.Module, ABC):
    """Network from pictures (M, 3, h, w) uint8 to features (M, grid * grid, features); frozen outside :meth:`fit`."""

    @abstractmethod
    def fit(self, windows: Windows, cameras: tuple[str, ...], rng: np.random.Generator, seed: int) -> None:
        """Fit the trainable part of the teacher to the dataset."""

    @abstractmethod
    def look(self, images: Tensor) -> Tensor:
        """Features of pictures, not standardised."""


def vicreg(a: Tensor, b: Tensor) -> Tensor:
    """Variance-invariance-covariance loss of two views (M, D) (Bardes et al. 2022, eqs. 1-4; weights 25, 25, 1)."""
    invariance = F.mse_loss(a, b)
    loss = 25 * invariance
    for z in (a, b):
        z = z - z.mean(dim=0)
        deviation = (z.var(dim=0) + 1e-4).sqrt()
        covariance = z.T @ z / (len(z) - 1)
        off_diagonal = covariance - torch.diag(covariance.diagonal())
        loss = loss + 25 * F.relu(1 - deviation).mean() + off_diagonal.square().sum() / z.shape[1]
    return loss


@TeacherConfig.register_subclass("self_trained")
@dataclass(frozen=True)
class SelfTrainedConfig(TeacherConfig):
    """Small convolutional teacher trained on the dataset without labels (VICReg, Bardes et al. 2022).

    Attributes:
        steps: self-supervised training steps.
        batch_size: pairs of frames per step.
        gap: ticks between the two frames of a pair.
    """

    steps: Count = 200
    batch_size: Size = 48
    gap: Count = 4

    @override
    def build(self, features: int, grid: int) -> SelfTrained:
        """Build the teacher, untrained."""
        return SelfTrained(self, features, grid)


@final
class SelfTrained(nn.Sequential, Teacher):
    """Three convolutions, then the average over each cell of the grid."""

    def __init__(self, config: SelfTrainedConfig, features: int, grid: int) -> None:
        super().__init__(
            nn.Conv2d(3, 32, 5, stride=4, padding=2),
            nn.GELU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(64, features, 3, stride=1, padding=1),
            nn.AdaptiveAvgPool2d(grid),
        )
        self.config, self.size = config, features * grid**2
        self.requires_grad_(False)

    @override
    def look(self, images: Tensor) -> Tensor:
        return self(images.float() / 127.5 - 1).flatten(2).transpose(1, 2)

    @override
    def fit(self, windows: Windows, cameras: tuple[str, ...], rng: np.random.Generator, seed: int) -> None:
        """Train with VICReg on frames ``gap`` ticks apart, then freeze."""
        device = next(self.parameters()).device
        spec = WindowSpec(observation=(-self.config.gap, 0), horizon=1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # the head's weights depend on the seed only, not on earlier draws
            head = nn.Sequential(nn.Flatten(), nn.Linear(self.size, 128), nn.GELU(), nn.Linear(128, 64))
        head.to(device)
        self.requires_grad_(True)
        optimizer = torch.optim.AdamW([*self.parameters(), *head.parameters()], lr=1e-3)
        for _ in track(range(self.config.steps), "teacher steps"):
            index = np.sort(rng.integers(windows.num_frames, size=self.config.batch_size))
            images = windows.windows(index, spec).observation.images
            camera = cameras[rng.integers(len(cameras))]
            pair = images[camera].to(device)
            loss = vicreg(head(self.look(pair[:, 0])), head(self.look(pair[:, 1])))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        self.requires_grad_(False)
        self.zero_grad(set_to_none=True)  # so that no stale gradient enters the design's gradient norm


@TeacherConfig.register_subclass("pretrained")
@dataclass(frozen=True)
class PretrainedTeacherConfig(TeacherConfig):
    """Vision model of `transformers` (DINOv2, SigLIP, V-JEPA 2), projected to its principal components.

    Attributes:
        model: folder or hub id of the model.
        architecture: config of the model as JSON; filled in when empty.
        layer: name of the layer to read, as in ``model.named_modules()``; empty for the last hidden state.
        size: side in pixels to which pictures are resized; 0 for the model's own.
        mean: mean of pictures in [0, 1] per channel; empty for the model's own.
        deviation: standard deviation of pictures in [0, 1] per channel; empty for the model's own.
    """

    packages: ClassVar[tuple[str, ...]] = ("pretrained",)
    model: str = ""
    architecture: str = ""
    layer: str = ""
    size: Room = 0
    mean: tuple[Finite, ...] = ()
    deviation: tuple[Positive, ...] = ()

    def __post_init__(self) -> None:
        """Read the model's config."""
        pin(self, "teacher 'pretrained'")

    @override
    def build(self, features: int, grid: int) -> PretrainedTeacher:
        """Build; raises :class:`ConfigError` when model or layer is missing, or has too few features."""
        model = PictureModel(
            Source(self.model, self.architecture, "teacher 'pretrained'", self.layer),
            Preprocessing(self.size, self.mean, self.deviation),
            grid,
        )
        if model.width < features:
            raise ConfigError(
                f"teacher 'pretrained': {self.model!r} has {model.width} features, fewer than features = {features}"
            )
        return PretrainedTeacher(model, features)


@final
class PretrainedTeacher(Teacher):
    """Leading principal components of the model's features over the dataset's frames."""

    basis: Tensor

    def __init__(self, model: PictureModel, features: int) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("basis", torch.eye(model.width)[:features])

    @override
    def look(self, images: Tensor) -> Tensor:
        return self.model(images) @ self.basis.T

    @override
    @torch.no_grad()
    def fit(self, windows: Windows, cameras: tuple[str, ...], rng: np.random.Generator, seed: int) -> None:
        """Find the components; the model itself does not change."""
        frames = draw_frames(windows, rng)
        parts = [part for c in cameras for part in frames.view(c)[:, 0].split(32)]
        seen = [self.model(part.to(self.basis.device)) for part in track(parts, "pictures of the teacher")]
        features = torch.cat(seen).flatten(0, 1)
        if len(features) <= len(self.basis):
            raise DataError(
                f"teacher 'pretrained': {len(features)} tokens of {frames.batch_size} frames are too few for "
                f"{len(self.basis)} components. Use more data or fewer features."
            )
        centred = (features - features.mean(dim=0)).double()
        values, vectors = torch.linalg.eigh(centred.T @ centred)
        leading = vectors[:, values.argsort(descending=True)[: len(self.basis)]].T
        largest = leading.abs().argmax(dim=1, keepdim=True)
        # The sign of a component is arbitrary; its largest entry is made positive.
        signed = leading * leading.gather(1, largest).sign()
        self.basis = signed.to(self.basis).contiguous()
