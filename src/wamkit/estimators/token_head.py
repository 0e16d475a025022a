"""Flow head of one token, conditioned on the trunk's hidden token (`bb.autoregressive`, per-token head).

The trunk runs once per token; the small head runs once per step of its flow (MAR, Li et al. 2024).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wamkit.config.ranges import Magnitude, Size
from wamkit.contract.protocols import EstimatorConfig
from wamkit.contract.streams import RowNoise, cleared, feature_mean
from wamkit.estimators.samplers import FlowWalk
from wamkit.estimators.tokens import LevelEmbedding


@dataclass(frozen=True)
class HeadedConfig(EstimatorConfig):
    """Base of the configs of estimators that draw vectors by a flow head per token.

    Attributes:
        steps: flow steps of the head per token; the trunk does not run again for them.
        temperature: scale of the head's initial noise; 1 samples the learned density.
        draws: noise draws per token in training (MAR takes 4).
        hidden: hidden width of the head.
        depth: residual layers of the head.
    """

    steps: Size = 8
    temperature: Magnitude = 1.0
    draws: Size = 4
    hidden: Size = 64
    depth: Size = 2

    def head(self, features: int, width: int) -> TokenHead:
        """Build the head of a stream with ``features`` per token, on a trunk of ``width``."""
        return TokenHead(features, width, self.hidden, self.depth)


class TokenHead(nn.Module):
    """Flow matching of single tokens: from noise (B, D) to a value (B, D) under a condition (B, width).

    Args:
        features: features per token, D.
        width: width of the condition.
        hidden: hidden width of the head.
        depth: residual layers of the head.
    """

    def __init__(self, features: int, width: int, hidden: int, depth: int) -> None:
        super().__init__()
        self.features = features
        self.inward = nn.Linear(features, hidden)
        self.condition = nn.Linear(width, hidden)
        self.level = LevelEmbedding(hidden)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(hidden), nn.Linear(hidden, 2 * hidden), nn.SiLU(), nn.Linear(2 * hidden, hidden)
            )
            for _ in range(depth)
        )
        self.outward = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, features))

    def velocity(self, values: Tensor, level: Tensor, condition: Tensor) -> Tensor:
        """Predict noise minus data, (R, D), for values (R, D) at levels (R,) under conditions (R, width)."""
        shift = self.condition(condition) + self.level(level)[:, 0]
        x = self.inward(values)
        for layer in self.layers:
            x = x + layer(x + shift)
        return self.outward(x)

    def error(self, condition: Tensor, target: Tensor, draws: int, real: Tensor | None = None) -> Tensor:
        """Squared error (B, L) of the velocity for conditions (B, L, width) and targets (B, L, D).

        It is the mean over ``draws`` and D, of which only the ``real`` features, (B, L, D) bool, count and have noise.
        """
        shape = target.shape[:2]
        own = (
            None if real is None else real.flatten(0, 1).repeat_interleave(draws, dim=0)
        )  # (B * L * draws, D)
        conditions = condition.flatten(0, 1).repeat_interleave(draws, dim=0)
        clean = target.flatten(0, 1).repeat_interleave(draws, dim=0)
        level = torch.rand(len(clean), device=clean.device)
        noise = cleared(torch.randn_like(clean), own)
        velocity = self.velocity(torch.lerp(clean, noise, level[:, None]), level, conditions)
        error = (velocity - (noise - clean)).square()
        mean = error.mean(dim=1) if own is None else feature_mean(error[:, None], own[:, None])[:, 0]
        return mean.unflatten(0, (*shape, draws)).mean(dim=2)

    def draw(
        self,
        condition: Tensor,
        steps: int,
        temperature: float,
        noise: RowNoise,
        real: Tensor | None = None,
    ) -> Tensor:
        """Sample every token (B, L, D) under conditions (B, L, width) by Euler steps, 0 where it is not ``real``."""
        b, length, _ = condition.shape
        own = None if real is None else real.flatten(0, 1)[:, None]  # (B * L, 1, D)
        start = temperature * noise.normal(length, 1, self.features)
        walk = FlowWalk(cleared(start.flatten(0, 1), own), 1.0, steps, steps, "euler")
        while walk.left:
            level = walk.value.new_full((b * length,), walk.level)
            field = self.velocity(walk.value[:, 0], level, condition.flatten(0, 1))[:, None]
            walk.advance(cleared(field, own), None)
        return walk.value[:, 0].unflatten(0, (b, length))
