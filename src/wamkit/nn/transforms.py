"""Invertible transforms, each with its inverse, built from statistics that travel with the weights."""

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

# Statistic of a feature: smallest scale of its quantile normalisation, (D,). Checkpoints written before it existed
# have none, and keep the scales that they were trained with.
FLOOR = "floor"

# Share of its magnitude (at least of 1) below which the spread of an entry is that of a constant.
CONSTANT = 1e-6

# Largest magnitude of a value normalised by quantiles.
REACH = 20.0


def least_scale(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Scale at which no value between ``low`` and ``high`` (D,), normalised by quantiles, exceeds :data:`REACH`.

    The quantiles of an entry that rarely moves span next to nothing. Dividing by that would blow its few movements up
    to any size; clipping them would keep the policy from ever making them.
    """
    return (np.asarray(high, np.float64) - np.asarray(low, np.float64)) / REACH


def quantile_range(
    stats: Mapping[str, Mapping[str, np.ndarray]], feature: str, resolution: float
) -> tuple[np.ndarray, np.ndarray]:
    """Range (D,) and (D,) that codes of limited reach divide: between the 1 % and the 99 % quantiles.

    An entry whose quantiles span less than ``resolution`` of all its values gets the whole range: within the quantiles
    it stands still, and what it rarely does lies far outside them.
    """
    low, high = statistic(stats, feature, "q01"), statistic(stats, feature, "q99")
    if FLOOR not in stats[feature]:
        return low, high
    least, most = statistic(stats, feature, "min"), statistic(stats, feature, "max")
    still = high - low < resolution * (most - least)
    return np.where(still, least, low), np.where(still, most, high)


def statistic(stats: Mapping[str, Mapping[str, np.ndarray]], feature: str, name: str) -> np.ndarray:
    """Look up one statistic; raises :class:`DataError` when the feature or the statistic is missing."""
    if feature not in stats:
        raise DataError(
            f"the dataset has no feature {feature!r}, which a part of this design reads. "
            f"{did_you_mean(feature, stats)} Leave that part out of the design, or record the feature."
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
    A constant dimension is only shifted, so that the inverse stays exact, and so is one that differs from a constant by
    no more than single precision does. In ``quantile``, a dimension that rarely
    moves is scaled by its whole range (:func:`least_scale`), so that no value exceeds :data:`REACH`.

    Args:
        stats: feature key -> statistic name -> values, from the dataset.
        feature: key of the feature.
        mode: statistics to use.

    Attributes:
        feature: key of the feature.
        mode: statistics that are used.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, stats: Mapping[str, Mapping[str, np.ndarray]], feature: str, mode: Mode) -> None:
        super().__init__()
        first, second = (statistic(stats, feature, name).reshape(-1) for name in _NEEDS[mode])
        shift, scale = (first, second) if mode == "mean_std" else ((first + second) / 2, (second - first) / 2)
        if mode == "quantile" and FLOOR in stats[feature]:
            scale = np.maximum(scale, statistic(stats, feature, FLOOR).reshape(-1))
        scale = np.where(scale < CONSTANT * np.maximum(1.0, np.abs(shift)), 1.0, scale)
        self.feature, self.mode = feature, mode
        self.register_buffer("shift", torch.from_numpy(shift.astype(np.float32)), persistent=False)
        self.register_buffer("scale", torch.from_numpy(scale.astype(np.float32)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise values in physical units, (..., D)."""
        return (x - self.shift) / self.scale

    def inverse(self, y: Tensor) -> Tensor:
        """Map normalised values back to physical units, (..., D)."""
        return y * self.scale + self.shift


@final
class Standardizer(nn.Module):
    """Affine map to zero mean and unit variance, saved with the weights; the identity until it is fitted.

    A constant dimension is only shifted, so that the inverse stays exact.

    Args:
        size: D, number of dimensions.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))

    def fit(self, values: Tensor) -> None:
        """Fit to values (M, D); a single one only shifts."""
        spread = values.std(dim=0) if len(values) > 1 else torch.zeros_like(values[0])
        self.mean.copy_(values.mean(dim=0))
        self.deviation.copy_(torch.where(spread < 1e-6, torch.ones_like(spread), spread))

    def forward(self, x: Tensor) -> Tensor:
        """Standardise values in physical units, (..., D)."""
        return (x - self.mean) / self.deviation

    def inverse(self, y: Tensor) -> Tensor:
        """Map standardised values back to physical units, (..., D)."""
        return y * self.deviation + self.mean


def mel_filters(frequencies: int, mels: int, rate_hz: float) -> Tensor:
    """Triangular filters of equal width on the Mel scale (Stevens et al. 1937; HTK's formula), (frequencies, mels)."""
    top = 2595 * np.log10(1 + rate_hz / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, mels + 2) / 2595) - 1)
    slopes = edges[None] - np.linspace(0, rate_hz / 2, frequencies)[:, None]
    rising, falling = -slopes[:, :-2] / np.diff(edges)[:-1], slopes[:, 2:] / np.diff(edges)[1:]
    return torch.from_numpy(np.maximum(0, np.minimum(rising, falling)).astype(np.float32))


@final
class LogMel(nn.Module):
    """Waveform (..., samples) in [-1, 1] <-> Mel spectrogram (..., frames, mels): 1 is full scale, 0 is -80 dB or less.

    The inverse estimates a waveform with this spectrogram (Griffin and Lim 1984): the phase and the distribution within
    a Mel band are lost.

    Args:
        rate_hz: samples per second.
        size: samples per frame.
        hop: samples between the starts of two frames.
        mels: number of Mel bands.
    """

    FLOOR_DB = 80.0
    filters: Tensor
    window: Tensor

    def __init__(self, rate_hz: float, size: int, hop: int, mels: int) -> None:
        super().__init__()
        self.size, self.hop = size, hop
        self.register_buffer("window", torch.hann_window(size), persistent=False)
        self.register_buffer("filters", mel_filters(size // 2 + 1, mels, rate_hz), persistent=False)

    def frames(self, samples: int) -> int:
        """Number of frames in ``samples`` samples."""
        return max(0, 1 + (samples - self.size) // self.hop)

    def spectrum(self, waveform: Tensor) -> Tensor:
        """Complex spectrum (..., frames, frequencies); a sine of full scale has magnitude one half."""
        return torch.fft.rfft(waveform.unfold(-1, self.size, self.hop) * self.window) / self.window.sum()

    def forward(self, waveform: Tensor) -> Tensor:
        """Mel spectrogram of a waveform, (..., samples) -> (..., frames, mels)."""
        power = self.spectrum(waveform).abs().square() @ self.filters
        return (10 * power.clamp(min=1e-12).log10() / self.FLOOR_DB + 1).clamp(0, 1)

    def inverse(self, level: Tensor, iterations: int = 64) -> Tensor:
        """Estimate a waveform of (frames - 1) * hop + size samples by ``iterations`` of Griffin-Lim."""
        power = 10 ** ((level - 1) * self.FLOOR_DB / 10) * (level > 0)
        magnitude = (power @ torch.linalg.pinv(self.filters)).clamp(min=0).sqrt()
        phase = torch.ones_like(magnitude, dtype=torch.complex64)
        for _ in range(iterations):
            spectrum = self.spectrum(self._joined(magnitude * phase))
            phase = spectrum / spectrum.abs().clamp(min=1e-12)
        return self._joined(magnitude * phase)

    def _joined(self, spectrum: Tensor) -> Tensor:
        """Waveform with the nearest spectrum (least squares, overlap and add)."""
        pieces = torch.fft.irfft(spectrum * self.window.sum(), n=self.size) * self.window
        shape = (*pieces.shape[:-2], (pieces.shape[-2] - 1) * self.hop + self.size)
        total, weight = pieces.new_zeros(shape), pieces.new_zeros(shape[-1])
        for i in range(pieces.shape[-2]):
            span = slice(i * self.hop, i * self.hop + self.size)
            total[..., span] += pieces[..., i, :]
            weight[span] += self.window.square()
        return total / weight.clamp(min=1e-2)
