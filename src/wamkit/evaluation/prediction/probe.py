"""Probes: how precisely values can be read from features (Alain and Bengio 2016, arXiv:1610.01644).

A probe is a small model from features, such as the tokens of an encoder, to known values, such as the position of an
object. Its error on episodes that it was not fitted on says how much of the values the features still hold. Two models
read them: ridge regression, which finds what is there linearly, and a perceptron of two hidden layers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from wamkit.errors import DataError

Values: TypeAlias = NDArray[np.float64]
Probe = Callable[[Values], Values]  # features (N, D) -> values (N, K)

PENALTIES = tuple(10.0**k for k in range(-6, 4))  # of ridge regression, per sample
CHOOSING = 4  # every fourth episode chooses the penalty, or when training stops
HIDDEN = 256
EPOCHS = 60
BATCH = 256
PATIENCE = 12  # epochs without a better error on the choosing episodes


@dataclass(frozen=True)
class Samples:
    """Features with the values that are to be read from them.

    Attributes:
        features: (N, D).
        values: (N, K).
        owners: (N,), number of the episode that a row comes from.
    """

    features: Values
    values: Values
    owners: NDArray[np.int64]

    def __post_init__(self) -> None:
        rows = {len(self.features), len(self.values), len(self.owners)}
        if len(rows) != 1 or self.features.ndim != 2 or self.values.ndim != 2:
            raise DataError(
                f"probe: features {self.features.shape}, values {self.values.shape} and owners {self.owners.shape} "
                f"must be (N, D), (N, K) and (N,)"
            )

    def split(self) -> tuple[Samples, Samples]:
        """Rows to fit on, and those of every :data:`CHOOSING`-th episode; raises with fewer than two episodes."""
        episodes = np.unique(self.owners)
        if len(episodes) < 2:
            raise DataError(f"probe: needs samples of at least two episodes, got {len(episodes)}")
        choosing = np.isin(self.owners, episodes[1::CHOOSING])
        return self.rows(~choosing), self.rows(choosing)

    def rows(self, which: NDArray[np.bool_]) -> Samples:
        """The rows that a mask (N,) selects."""
        return Samples(self.features[which], self.values[which], self.owners[which])


@dataclass(frozen=True)
class _Scale:
    """Shift and scale of columns; constant ones become 0."""

    mean: Values
    spread: Values

    @staticmethod
    def of(values: Values) -> _Scale:
        """Scale of the columns of ``values`` (N, D)."""
        spread = values.std(axis=0)
        return _Scale(values.mean(axis=0), np.where(spread > 1e-9, spread, np.inf))

    def __call__(self, values: Values) -> Values:
        return (values - self.mean) / self.spread


def fit_mean(samples: Samples) -> Probe:
    """Probe that reads nothing: the mean of the values."""
    mean = samples.values.mean(axis=0)
    return lambda features: np.repeat(mean[None], len(features), axis=0)


def fit_ridge(samples: Samples) -> Probe:
    """Linear probe, min |X w - y|^2 / N + p |w|^2 on standardised features; p is chosen on held-out episodes."""
    fitted, choosing = samples.split()
    errors = [
        np.square(probe(choosing.features) - choosing.values).mean() for probe in _ridges(fitted, PENALTIES)
    ]
    return _ridges(samples, [PENALTIES[int(np.argmin(errors))]])[0]


def _ridges(samples: Samples, penalties: tuple[float, ...] | list[float]) -> list[Probe]:
    """One linear probe per penalty, from one singular value decomposition."""
    scale, mean = _Scale.of(samples.features), samples.values.mean(axis=0)
    left, singular, right = np.linalg.svd(scale(samples.features), full_matrices=False)
    target = left.T @ (samples.values - mean)

    def probe(penalty: float) -> Probe:
        shrunk = singular / (np.square(singular) + penalty * len(samples.values))
        weights = right.T @ (shrunk[:, None] * target)  # (D, K)
        return lambda features: scale(features) @ weights + mean

    return [probe(penalty) for penalty in penalties]


def fit_perceptron(samples: Samples, seed: int = 0) -> Probe:
    """Probe of two hidden layers (AdamW); training stops when the error on held-out episodes no longer falls."""
    inputs, outputs = _Scale.of(samples.features), _Scale.of(samples.values)
    unit = np.where(np.isfinite(outputs.spread), outputs.spread, 0.0)
    rng = torch.Generator().manual_seed(seed)
    x, y, u, v = (
        torch.from_numpy(a.astype(np.float32))
        for s in samples.split()
        for a in (inputs(s.features), outputs(s.values))
    )
    net = _perceptron(x.shape[1], y.shape[1], seed)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-2)
    best, kept, stale = float("inf"), copy.deepcopy(net.state_dict()), 0
    for _ in range(EPOCHS):
        for part in torch.randperm(len(x), generator=rng).split(BATCH):
            optimiser.zero_grad()
            F.mse_loss(net(x[part]), y[part]).backward()
            optimiser.step()
        with torch.no_grad():
            error = float(F.mse_loss(net(u), v))
        stale += 1
        if error < best:
            best, kept, stale = error, copy.deepcopy(net.state_dict()), 0
        if stale > PATIENCE:
            break
    net.load_state_dict(kept)

    def probe(features: Values) -> Values:
        with torch.no_grad():
            read: Values = net(torch.from_numpy(inputs(features).astype(np.float32))).numpy()
        return read * unit + outputs.mean

    return probe


def _perceptron(features: int, values: int, seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(features, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, values)
        )  # fmt: skip


PROBES: Mapping[str, Callable[[Samples], Probe]] = {"ridge": fit_ridge, "perceptron": fit_perceptron}
