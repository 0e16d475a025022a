"""Latent transitions between frames that compose and reverse, learned without actions (`ps.vlm-token`, eq. 14)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from wamkit.config.ranges import Count, NonNegative, Size, Words
from wamkit.contract.data import DataSpec, Windows
from wamkit.contract.protocols import Category, Substrate, SubstrateConfig
from wamkit.contract.streams import StreamSpec
from wamkit.contract.types import Observation, WindowSpec
from wamkit.progress import track
from wamkit.substrates.views import chosen_cameras

PLACE = "substrate 'latent_transition'"
LEAST = 1e-8  # change that counts as none


@SubstrateConfig.register_subclass("latent_transition")
@dataclass(frozen=True)
class LatentTransitionConfig(SubstrateConfig):
    """Codes of what changes between two frames, fitted on pictures alone (ALAM, 2026; LAPA, Ye et al. 2024).

    Attributes:
        features: features of a code.
        side: rows and columns of the grid of mean colours that a frame is reduced to.
        cameras: names of the cameras; empty for all.
        algebra: weight of composition (the codes of two steps sum to that of both) and of reversal (the way back is
            the negative) against the error of the frame that a code leads to; 0 leaves them free.
        gap: ticks between two of the three frames of a training triple.
        steps: training steps.
        batch_size: triples per training step.
        hidden: hidden width of the networks.
    """

    features: Size = 16
    side: Size = 8
    cameras: Words = ()
    algebra: NonNegative = 0.3
    gap: Count = 4
    steps: Count = 300
    batch_size: Size = 32
    hidden: Size = 128

    @override
    def build(self, data: DataSpec) -> LatentTransition:
        """Build with unfitted networks; raises :class:`ConfigError` without a camera."""
        return LatentTransition(self, chosen_cameras(self.cameras, data, PLACE))


@final
class LatentTransition(Substrate):
    """Codes (B, T, 1, features) of the change from now to every step, standardised; frozen after :meth:`fit`.

    A code is inferred from two frames, and with the first frame it predicts the second (`ar.latent-action`).
    """

    category: ClassVar[Category] = "feature"
    variant: ClassVar[str] = "VLM token"
    relative = True
    scale: Tensor

    def __init__(self, config: LatentTransitionConfig, cameras: tuple[str, ...]) -> None:
        super().__init__()
        self.config, self.cameras = config, cameras
        width, hidden = 3 * config.side**2 * len(cameras), config.hidden
        self.infer = nn.Sequential(
            nn.Linear(2 * width, hidden), nn.GELU(), nn.Linear(hidden, config.features)
        )
        self.move = nn.Sequential(
            nn.Linear(width + config.features, hidden), nn.GELU(), nn.Linear(hidden, width)
        )
        self.register_buffer("scale", torch.ones(()))
        self.requires_grad_(False)

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return StreamSpec(name, role, steps, 1, self.config.features)

    def frames(self, observation: Observation) -> Tensor:
        """Frames (B, T, width) as mean colours of a grid, in [-1, 1]."""
        grids = []
        for camera in self.cameras:
            pictures = observation.view(camera)
            grid = F.adaptive_avg_pool2d(pictures.flatten(0, 1).float() / 127.5 - 1, self.config.side)
            grids.append(grid.flatten(1).unflatten(0, pictures.shape[:2]))
        return torch.cat(grids, dim=2)

    def code(self, before: Tensor, after: Tensor) -> Tensor:
        """Codes (..., features) of the change between frames (..., width), not standardised."""
        return self.infer(torch.cat((before, after), dim=-1))

    def reached(self, before: Tensor, code: Tensor) -> Tensor:
        """Frames (..., width) that the codes (..., features) lead to."""
        return before + self.move(torch.cat((before, code), dim=-1))

    def terms(self, first: Tensor, second: Tensor, third: Tensor) -> tuple[Tensor, Tensor]:
        """Share of the frames' change, and of the codes, that is missed, for triples of frames (M, width).

        Shares have no scale, so that small codes do not make the algebra cheap.
        """
        step, next_step, both = self.code(first, second), self.code(second, third), self.code(first, third)
        missed = F.mse_loss(self.reached(first, step), second) + F.mse_loss(self.reached(first, both), third)
        change = F.mse_loss(first, second) + F.mse_loss(first, third)
        error = missed / change.clamp(min=LEAST)
        astray = F.mse_loss(step + next_step, both) + F.mse_loss(self.code(second, first), -step)
        algebra = astray / (step.square().mean() + both.square().mean()).clamp(min=LEAST)
        return error, algebra

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        assert now is not None
        after = self.frames(observation)
        before = self.frames(now).expand_as(after)
        return self.code(before, after)[:, :, None] / self.scale

    @override
    def fit(self, windows: Windows, seed: int) -> None:
        """Train on triples of frames ``gap`` ticks apart, then freeze and standardise; no action is read."""
        config, rng = self.config, np.random.default_rng(seed)
        spec = WindowSpec(observation=(-2 * config.gap, -config.gap, 0), horizon=1)
        self.requires_grad_(True)
        optimizer = torch.optim.AdamW(self.parameters(), lr=2e-3)
        for _ in track(range(config.steps), "substrate steps"):
            first, second, third = self._triples(windows, rng, spec)
            error, algebra = self.terms(first, second, third)
            optimizer.zero_grad()
            (error + config.algebra * algebra).backward()
            optimizer.step()
        self.requires_grad_(False)
        self.zero_grad(set_to_none=True)  # so that no stale gradient enters the design's gradient norm
        first, _, third = self._triples(windows, rng, spec)
        self.scale.copy_(self.code(first, third).std().clamp(min=1e-4))

    def _triples(self, windows: Windows, rng: np.random.Generator, spec: WindowSpec) -> list[Tensor]:
        index = np.sort(rng.integers(windows.num_frames, size=self.config.batch_size))
        frames = self.frames(windows.windows(index, spec).observation).to(self.scale.device)
        return [frames[:, i] for i in range(3)]
