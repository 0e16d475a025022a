"""Depth from one colour picture: a small network that is fitted on frames whose depth is known (`oe.geometry`)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wamkit.errors import DataError

CHANNELS = 16
FINEST = 4  # pixels of the shrunken picture per point and side, at most
BATCH = 16
RATE = 4e-3
NEAR_M = 0.02
SCALE_FREE = 0.5  # share of the error that a common factor of all depths is forgiven


def scale_invariant(found: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Scale-invariant error of logarithmic depths (M, ...) where ``known`` (Eigen et al. 2014, eq. 4), a scalar.

    With d the difference of logarithms it is ``mean(d^2) - SCALE_FREE * mean(d)^2`` per picture.
    """
    error = torch.where(known, found - truth, 0.0).flatten(1)
    count = known.flatten(1).sum(dim=1).clamp(min=1)
    mean = error.sum(dim=1) / count
    return (error.square().sum(dim=1) / count - SCALE_FREE * mean.square()).mean()


def around(before: int, after: int) -> nn.Sequential:
    """Look around twice."""
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(after, after, 3, padding=1),
        nn.SiLU(),
    )


@final
class DepthImputer(nn.Module):
    """(M, 3, h, w) uint8 pictures of one camera -> depth (M, side, side) in metres. Frozen outside :meth:`fit`.

    A U-net (Ronneberger et al. 2015) over picture and pixel coordinates (Liu et al. 2018). It says by how much the
    logarithm of inverse depth differs from its mean over the frames that it was fitted on.

    Args:
        side: rows and columns of points.
        size: height and width of the picture, pixels, multiples of ``side``.
        far_m: depths are cut to [``NEAR_M``, ``far_m``].
        steps: training steps of :meth:`fit`.
    """

    usual: Tensor
    spread: Tensor

    def __init__(self, side: int, size: tuple[int, int], far_m: float, steps: int) -> None:
        super().__init__()
        self.side, self.far_m, self.steps = side, far_m, steps
        self.fine = min(FINEST, size[0] // side, size[1] // side)
        self.enter = around(3 * self.fine**2 + 2, CHANNELS)
        self.down_once = around(CHANNELS, 2 * CHANNELS)
        self.down_twice = around(2 * CHANNELS, 2 * CHANNELS)
        self.up_once = around(4 * CHANNELS, 2 * CHANNELS)
        self.up_twice = around(3 * CHANNELS, CHANNELS)
        self.leave = nn.Conv2d(CHANNELS, 1, 1)
        self.register_buffer("usual", torch.zeros(side, side))
        self.register_buffer("spread", torch.ones(()))
        self.requires_grad_(False)

    def nearness(self, images: Tensor) -> Tensor:
        """Pictures (M, 3, h, w) uint8 -> logarithm of inverse depth (M, side, side), in -log metres."""
        small = F.adaptive_avg_pool2d(images.float() / 255 - 0.5, self.side * self.fine)
        line = torch.linspace(-1, 1, self.side, device=images.device)
        place = torch.stack(torch.meshgrid(line, line, indexing="ij")).expand(len(images), -1, -1, -1)
        full = self.enter(torch.cat((F.pixel_unshuffle(small, self.fine), place), dim=1))
        half = self.down_once(F.avg_pool2d(full, 2, ceil_mode=True))
        quarter = self.down_twice(F.avg_pool2d(half, 2, ceil_mode=True))
        half = self.up_once(torch.cat((half, F.interpolate(quarter, size=half.shape[-2:])), dim=1))
        full = self.up_twice(torch.cat((full, F.interpolate(half, size=full.shape[-2:])), dim=1))
        return self.usual + self.spread * self.leave(full)[:, 0]

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Estimate depth in metres from pictures; shapes as in the class."""
        return (-self.nearness(images)).exp().clamp(NEAR_M, self.far_m)

    def fit(self, images: Tensor, metres: Tensor, seed: int) -> None:
        """Train on pictures (M, 3, h, w) uint8 and their depths (M, side, side), from weights that follow the seed.

        Depths that are not finite or not positive are unknown, and nothing is learned from them.

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
        self.zero_grad(set_to_none=True)  # no stale gradient may enter the design's gradient norm

    def _train(self, images: Tensor, truth: Tensor, known: Tensor) -> None:
        optimizer = torch.optim.AdamW(self.parameters(), lr=RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=RATE, total_steps=self.steps + 1, pct_start=0.1
        )
        for _ in range(self.steps):
            rows = torch.randint(len(images), (min(BATCH, len(images)),))
            found = self.nearness(images[rows])
            # In units of the spread: the rate is then right for a deep scene and a flat one alike.
            loss = scale_invariant(found / self.spread, truth[rows] / self.spread, known[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters(), 1.0)
            optimizer.step()
            schedule.step()
