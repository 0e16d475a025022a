"""Monocular depth from one colour picture, by a small network fitted on frames with known depth (`oe.geometry`)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wamkit.errors import DataError
from wamkit.progress import track

CHANNELS = 16
FINEST = 4  # largest number of pixels per point and side in the downsampled picture
BATCH = 16
RATE = 4e-3
NEAR_M = 0.02
SCALE_FREE = 0.5  # share of the squared mean error that the loss forgives, since a common scale is ambiguous


def scale_invariant(estimate: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Scale-invariant error of log depths (M, ...) over the ``known`` ones (Eigen et al. 2014, eq. 4), a scalar.

    Per picture it is ``mean(d^2) - SCALE_FREE * mean(d)^2``, where d is the difference of the log depths.
    """
    error = torch.where(known, estimate - truth, 0.0).flatten(1)
    count = known.flatten(1).sum(dim=1).clamp(min=1)
    mean = error.sum(dim=1) / count
    return (error.square().sum(dim=1) / count - SCALE_FREE * mean.square()).mean()


def double_convolution(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3 x 3 convolutions, each with a SiLU: (B, inputs, h, w) -> (B, outputs, h, w)."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.SiLU(),
    )


@final
class DepthImputer(nn.Module):
    """Pictures (M, 3, h, w) uint8 of one camera -> depth (M, side, side) in metres. Frozen outside :meth:`fit`.

    A U-Net (Ronneberger et al. 2015) on the picture and pixel coordinates (Liu et al. 2018). It predicts the deviation
    of log inverse depth from its mean over the frames that it was fitted on.

    Args:
        side: rows and columns of the depth map.
        size: height and width of the picture in pixels, multiples of ``side``.
        far_m: upper bound of depth; depths are clamped to [``NEAR_M``, ``far_m``].
        steps: training steps of :meth:`fit`.

    Attributes:
        usual: (side, side), mean of log inverse depth per point.
        spread: root mean square deviation of log inverse depth from ``usual``, scalar.
    """

    usual: Tensor
    spread: Tensor

    def __init__(self, side: int, size: tuple[int, int], far_m: float, steps: int) -> None:
        super().__init__()
        self.side, self.far_m, self.steps = side, far_m, steps
        self.fine = min(FINEST, size[0] // side, size[1] // side)
        self.enter = double_convolution(3 * self.fine**2 + 2, CHANNELS)
        self.down_once = double_convolution(CHANNELS, 2 * CHANNELS)
        self.down_twice = double_convolution(2 * CHANNELS, 2 * CHANNELS)
        self.up_once = double_convolution(4 * CHANNELS, 2 * CHANNELS)
        self.up_twice = double_convolution(3 * CHANNELS, CHANNELS)
        self.leave = nn.Conv2d(CHANNELS, 1, 1)
        self.register_buffer("usual", torch.zeros(side, side))
        self.register_buffer("spread", torch.ones(()))
        self.requires_grad_(False)

    def nearness(self, images: Tensor) -> Tensor:
        """Log inverse depth, -log of metres: pictures (M, 3, h, w) uint8 -> (M, side, side)."""
        small = F.adaptive_avg_pool2d(images.float() / 255 - 0.5, self.side * self.fine)
        axis = torch.linspace(-1, 1, self.side, device=images.device)
        position = torch.stack(torch.meshgrid(axis, axis, indexing="ij")).expand(len(images), -1, -1, -1)
        full = self.enter(torch.cat((F.pixel_unshuffle(small, self.fine), position), dim=1))
        half = self.down_once(F.avg_pool2d(full, 2, ceil_mode=True))
        quarter = self.down_twice(F.avg_pool2d(half, 2, ceil_mode=True))
        half = self.up_once(torch.cat((half, F.interpolate(quarter, size=half.shape[-2:])), dim=1))
        full = self.up_twice(torch.cat((full, F.interpolate(half, size=full.shape[-2:])), dim=1))
        return self.usual + self.spread * self.leave(full)[:, 0]

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Pictures (M, 3, h, w) uint8 -> depth (M, side, side) in metres."""
        return (-self.nearness(images)).exp().clamp(NEAR_M, self.far_m)

    def fit(self, images: Tensor, metres: Tensor, seed: int) -> None:
        """Train on pictures (M, 3, h, w) uint8 and their depths (M, side, side), from weights drawn with ``seed``.

        Depths that are not finite or not positive count as unknown and do not enter the loss.

        Raises:
            DataError: no depth is known.
        """
        known = metres.isfinite() & (metres > 0)
        if not known.any():
            raise DataError(
                f"depth imputation: none of {len(metres)} frames has a finite depth above zero. Record depth, or "
                f"set `impute` to false."
            )
        truth = -torch.where(known, metres, 1.0).clamp(NEAR_M, self.far_m).log()
        average = truth[known].mean()
        count = known.sum(dim=0)
        mean = torch.where(known, truth, 0.0).sum(dim=0) / count.clamp(min=1)
        self.usual = torch.where(count > 0, mean, average)
        self.spread = (truth - self.usual)[known].square().mean().sqrt().clamp(min=1e-3)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    module.reset_parameters()
            self.requires_grad_(True)
            self._train(images, truth, known)
        self.requires_grad_(False)
        # A stale gradient would enter the gradient norm of the design.
        self.zero_grad(set_to_none=True)

    def _train(self, images: Tensor, truth: Tensor, known: Tensor) -> None:
        optimizer = torch.optim.AdamW(self.parameters(), lr=RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=RATE, total_steps=self.steps + 1, pct_start=0.1
        )
        for _ in track(range(self.steps), "depth steps"):
            rows = torch.randint(len(images), (min(BATCH, len(images)),))
            estimate = self.nearness(images[rows])
            # In units of the spread, so that one learning rate suits deep and flat scenes alike.
            loss = scale_invariant(estimate / self.spread, truth[rows] / self.spread, known[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters(), 1.0)
            optimizer.step()
            schedule.step()
