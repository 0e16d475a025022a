"""k-means codebooks: over single tokens, or shared by all scales of a ladder (VAR, Tian et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy
import torch
from torch import Tensor

from wamkit.contract.scales import Ladder
from wamkit.errors import DataError
from wamkit.progress import track

PER_ENTRY = 64  # points per entry given to k-means
ROUNDS = 8  # updates of the shared entries over all scales; further ones change the error by under 1 %


def nearest_entries(values: Tensor, centres: Tensor) -> Tensor:
    """Ids (...) of the nearest of ``centres`` (V, D) to each of ``values`` (..., D)."""
    return torch.cdist(values.flatten(0, -2)[None], centres[None])[0].argmin(dim=-1).view(values.shape[:-1])


def require_distinct(points: Tensor, size: int, reader: str) -> None:
    """Raise :class:`DataError` when fewer than ``size`` of the ``points`` (P, D) differ."""
    distinct = len(points.unique(dim=0))
    if distinct < size:
        raise DataError(
            f"{reader}: {distinct} distinct tokens cannot fill a codebook of {size} entries. Lower `vocabulary` or "
            f"use more data."
        )


def fit_codebook(points: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """k-means centres (size, D) of ``points`` (P, D)."""
    data = points.cpu().numpy().astype(np.float64)
    sample = data[rng.permutation(len(data))[: PER_ENTRY * size]]
    centres, _ = scipy.cluster.vq.kmeans2(sample, size, iter=15, minit="++", rng=rng)
    return torch.from_numpy(centres).float().to(points.device)


def quantise(values: Tensor, centres: Tensor, ladder: Ladder) -> tuple[list[Tensor], list[Tensor]]:
    """Ids of every scale (B, T, n_k) and the means that they quantise (B, T, n_k, D), coarsest first.

    Every scale quantises the residual that the coarser ones left of ``values`` (B, T, N, D) (VAR, algorithm 1,
    without its convolutions).
    """
    residual, ids, means = values, [], []
    for k in range(ladder.count):
        means.append(ladder.mean(residual, k))
        ids.append(nearest_entries(means[-1], centres))
        residual = residual - ladder.copy(centres[ids[-1]], k)
    return ids, means


def restore(ids: Sequence[Tensor], centres: Tensor, ladder: Ladder) -> Tensor:
    """Sum of the entries (B, T, N, D) that the ids (B, T, n_k) of the first scales name."""
    parts = [ladder.copy(centres[part], k) for k, part in enumerate(ids)]
    return torch.stack(parts).sum(dim=0)


def fit_shared(values: Tensor, size: int, ladder: Ladder, rng: np.random.Generator) -> Tensor:
    """One codebook (size, D) for all scales of ``values`` (B, T, N, D); entry 0 is zero and adds nothing.

    Entry 0 keeps every scale from increasing the error of any value: the entry nearest to a cell's mean is at least
    as near to it as zero. The other entries start as k-means centres of one scale each and then move to the mean of
    the cells assigned to them at all scales, weighted by the cells' area; the best round is kept.
    """
    centres = _initial(values, size, ladder, rng)
    best, least = centres, float("inf")
    for _ in track(range(ROUNDS), "codebook rounds"):
        ids, means = quantise(values, centres, ladder)
        error = (restore(ids, centres, ladder) - values).square().mean().item()
        if error < least:
            best, least = centres, error
        centres = _updated(centres, ids, means, ladder)
        centres[0] = 0
    return best


def _initial(values: Tensor, size: int, ladder: Ladder, rng: np.random.Generator) -> Tensor:
    """Entry 0, and for every scale an equal share of entries fitted to the residual of the coarser scales."""
    centres = values.new_zeros(1, values.shape[-1])
    residual, spare = values, size - 1
    for k in range(ladder.count):
        means = ladder.mean(residual, k)
        points = means.flatten(0, -2)
        share = min(spare // (ladder.count - k), len(points.unique(dim=0)))
        if share:
            centres = torch.cat((centres, fit_codebook(points, share, rng)))
        spare -= share
        residual = residual - ladder.copy(centres[nearest_entries(means, centres)], k)
    return torch.cat((centres, centres.new_zeros(size - len(centres), values.shape[-1])))


def _updated(centres: Tensor, ids: Sequence[Tensor], means: Sequence[Tensor], ladder: Ladder) -> Tensor:
    """Every entry moved to the mean of the cells assigned to it; an entry without cells stays."""
    sums, weights = torch.zeros_like(centres), centres.new_zeros(len(centres))
    for k, (part, mean) in enumerate(zip(ids, means, strict=True)):
        area = ladder.area(k).to(mean).expand(part.shape)
        sums.index_add_(0, part.flatten(), (mean * area[..., None]).flatten(0, -2))
        weights.index_add_(0, part.flatten(), area.flatten())
    return torch.where(weights[:, None] > 0, sums / weights.clamp(min=1)[:, None], centres)
