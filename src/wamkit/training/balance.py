"""Balance of several losses: a weight per stream that may change during training, and gradient norms per loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from wamkit.config.ranges import NonNegative, Whole
from wamkit.config.values import Config
from wamkit.contract.types import Losses
from wamkit.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class Ramp(Config):
    """Factor on the weight of a stream's loss, linear between two steps and constant outside (eq. 19's lambda).

    Attributes:
        first: factor up to step ``begin``.
        last: factor from step ``end`` on.
        begin: step at which the ramp begins.
        end: step at which the ramp ends, not before ``begin``.
    """

    first: NonNegative = 0.0
    last: NonNegative = 1.0
    begin: Whole = 0
    end: Whole = 1000

    def __post_init__(self) -> None:
        if self.begin > self.end:
            raise ConfigError(
                f"ramp from {self.first} at step {self.begin} to {self.last} at step {self.end}: the end must not lie "
                f"before the beginning"
            )

    def at(self, step: int) -> float:
        """Factor at ``step``."""
        if step >= self.end:
            return self.last
        share = max(0, step - self.begin) / max(1, self.end - self.begin)
        return self.first + share * (self.last - self.first)


def check_ramps(ramps: Mapping[str, Ramp], streams: Iterable[str]) -> None:
    """Raise :class:`ConfigError` when a ramp is given for a stream that the design does not have."""
    names = list(streams)
    for name in ramps:
        if name not in names:
            raise ConfigError(f"ramps: unknown stream {name!r}. {did_you_mean(name, names)}")


def weights_at(step: int, ramps: Mapping[str, Ramp], weights: Mapping[str, float]) -> dict[str, float]:
    """Stream -> weight of its loss at ``step``: ``weights``, multiplied by the ramps."""
    return {**weights, **{name: weights.get(name, 1.0) * ramp.at(step) for name, ramp in ramps.items()}}


def gradient_norms(losses: Losses, shared: Iterable[nn.Parameter]) -> dict[str, float]:
    """Stream -> norm of the gradient of its unweighted loss on ``shared`` parameters. The graph is kept."""
    wanted = [p for p in shared if p.requires_grad]
    norms = {}
    for name, term in losses.terms.items():
        if not term.requires_grad:
            continue
        gradients = torch.autograd.grad(term, wanted, retain_graph=True, allow_unused=True)
        squares = [gradient.detach().square().sum() for gradient in gradients if gradient is not None]
        norms[name] = float(torch.stack(squares).sum().sqrt()) if squares else 0.0
    return norms
