"""Teachers: frozen networks whose features of a picture are worth predicting (`ps.teacher-feature`, eqs. 14, 28)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import draccus
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wamkit.contract.protocols import Windows
from wamkit.contract.types import WindowSpec
from wamkit.errors import ConfigError, DataError
from wamkit.nn.pretrained import PictureModel, Preprocessing, Source, pin

FIT_FRAMES = 256


@dataclass(frozen=True)
class TeacherConfig(draccus.ChoiceRegistry):
    """Base of all teacher configs."""

    def build(self, features: int, grid: int) -> Teacher:
        """Build a teacher of grid x grid tokens of ``features`` features."""
        raise NotImplementedError


class Teacher(nn.Module, ABC):
    """(M, 3, h, w) uint8 pictures -> (M, grid * grid, features). Frozen outside :meth:`fit`."""

    @abstractmethod
    def fit(self, windows: Windows, cameras: tuple[str, ...], rng: np.random.Generator, seed: int) -> None:
        """Learn from the dataset whatever is to be learned."""

    @abstractmethod
    def look(self, images: Tensor) -> Tensor:
        """Pictures -> features, not standardised."""


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


@TeacherConfig.register_subclass("self_trained")
@dataclass(frozen=True)
class SelfTrainedConfig(TeacherConfig):
    """Small convolutional teacher, trained on the dataset without labels (VICReg, Bardes et al. 2022).

    Attributes:
        steps: self-supervised training steps.
        batch_size: pairs of frames per step.
        gap: ticks between the two frames of a pair.
    """

    steps: int = 200
    batch_size: int = 48
    gap: int = 4

    def build(self, features: int, grid: int) -> SelfTrained:
        """Build the teacher, untrained."""
        return SelfTrained(self, features, grid)


@final
class SelfTrained(nn.Sequential, Teacher):
    """Three convolutions and an average over each cell of the grid."""

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

    def look(self, images: Tensor) -> Tensor:
        """See :class:`Teacher`."""
        return self(images.float() / 127.5 - 1).flatten(2).transpose(1, 2)

    def fit(self, windows: Windows, cameras: tuple[str, ...], rng: np.random.Generator, seed: int) -> None:
        """Train with VICReg on frames ``gap`` ticks apart, then freeze."""
        device = next(self.parameters()).device
        spec = WindowSpec(observation=(-self.config.gap, 0), horizon=1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # the head's weights follow the seed, not what was drawn before
            head = nn.Sequential(nn.Flatten(), nn.Linear(self.size, 128), nn.GELU(), nn.Linear(128, 64)).to(
                device
            )
        self.requires_grad_(True)
        optimizer = torch.optim.AdamW([*self.parameters(), *head.parameters()], lr=1e-3)
        for _ in range(self.config.steps):
            index = np.sort(rng.integers(windows.num_frames, size=self.config.batch_size))
            images = windows.windows(index, spec).observation.images
            camera = cameras[rng.integers(len(cameras))]
            pair = images[camera].to(device)
            loss = vicreg(head(self.look(pair[:, 0])), head(self.look(pair[:, 1])))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        self.requires_grad_(False)
        self.zero_grad(set_to_none=True)  # no stale gradient may enter the design's gradient norm


@TeacherConfig.register_subclass("pretrained")
@dataclass(frozen=True)
class PretrainedTeacherConfig(TeacherConfig):
    """Any vision model of `transformers`, as DINOv2, SigLIP or V-JEPA 2, projected on what varies most.

    Attributes:
        model: a folder or a hub id.
        architecture: what the model is; filled in when it is empty.
        layer: name of the layer that is read, as in ``model.named_modules()``; empty for the last hidden state.
        size: side to which pictures are resized, pixels; 0 for the model's own.
        mean, deviation: of pictures in [0, 1] per channel; empty for those that come with the model.
    """

    model: str = ""
    architecture: str = ""
    layer: str = ""
    size: int = 0
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Read what the model is."""
        pin(self, "teacher 'pretrained'")

    def build(self, features: int, grid: int) -> PretrainedTeacher:
        """Build; raises :class:`ConfigError` when the model or its layer is not there or has fewer features."""
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

    def look(self, images: Tensor) -> Tensor:
        """See :class:`Teacher`."""
        return self.model(images) @ self.basis.T

    @torch.no_grad()
    def fit(self, windows: Windows, cameras: tuple[str, ...], rng: np.random.Generator, seed: int) -> None:
        """Find the components. The model itself is left as it is."""
        index = np.sort(rng.integers(windows.num_frames, size=min(FIT_FRAMES, windows.num_frames)))
        images = windows.windows(index, WindowSpec(horizon=1)).observation.images
        parts = [part for c in cameras for part in images[c][:, 0].split(32)]
        features = torch.cat([self.model(part.to(self.basis.device)) for part in parts]).flatten(0, 1)
        if len(features) <= len(self.basis):
            raise DataError(
                f"teacher 'pretrained': {len(features)} tokens of {len(index)} frames are too few for "
                f"{len(self.basis)} components. Use more data or fewer features."
            )
        centred = (features - features.mean(dim=0)).double()
        values, vectors = torch.linalg.eigh(centred.T @ centred)
        leading = vectors[:, values.argsort(descending=True)[: len(self.basis)]].T
        largest = leading.abs().argmax(dim=1, keepdim=True)
        signed = (
            leading * leading.gather(1, largest).sign()
        )  # a component's sign means nothing; this fixes it
        self.basis = signed.to(self.basis).contiguous()
