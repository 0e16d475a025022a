"""Invertible transforms, declared in pairs, built from the statistics that travel with the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor, nn

from wamkit.errors import DataError, did_you_mean

Mode = Literal["mean_std", "min_max", "quantile"]

_NEEDS: Mapping[Mode, tuple[str, str]] = {
    "mean_std": ("mean", "std"),
    "min_max": ("min", "max"),
    "quantile": ("q01", "q99"),
}


def statistic(stats: Mapping[str, Mapping[str, np.ndarray]], feature: str, name: str) -> np.ndarray:
    """Look up one statistic; raises :class:`DataError` when the feature or the statistic is missing."""
    if feature not in stats:
        raise DataError(
            f"no statistics for feature {feature!r} in the dataset. {did_you_mean(feature, stats)}"
        )
    if name not in stats[feature]:
        raise DataError(
            f"statistic {name!r} of feature {feature!r} is missing. {did_you_mean(name, stats[feature])} "
            f"Write the dataset's meta/stats.json again."
        )
    return np.asarray(stats[feature][name], dtype=np.float32)


@final
class Normalizer(nn.Module):
    """Affine map of the last dimension and its exact inverse.

    ``mean_std`` gives zero mean and unit variance; ``min_max`` and ``quantile`` map the range to [-1, 1].
    A dimension without spread is only shifted, so that the inverse stays exact.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, stats: Mapping[str, Mapping[str, np.ndarray]], feature: str, mode: Mode) -> None:
        super().__init__()
        first, second = (statistic(stats, feature, name).reshape(-1) for name in _NEEDS[mode])
        shift, scale = (first, second) if mode == "mean_std" else ((first + second) / 2, (second - first) / 2)
        scale = np.where(scale < 1e-6, 1.0, scale)
        self.register_buffer("shift", torch.from_numpy(shift.astype(np.float32)), persistent=False)
        self.register_buffer("scale", torch.from_numpy(scale.astype(np.float32)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Physical units -> normalised, (..., D)."""
        return (x - self.shift) / self.scale

    def inverse(self, y: Tensor) -> Tensor:
        """Normalised -> physical units, (..., D)."""
        return y * self.scale + self.shift
