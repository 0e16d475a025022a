"""Optimiser and learning-rate schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from wamkit.config.ranges import Decay, NonNegative, Positive, Probability, Whole, Words
from wamkit.config.values import Config


@dataclass(frozen=True)
class OptimConfig(Config):
    """AdamW with linear warm-up and cosine decay.

    Attributes:
        lr: learning rate at the peak.
        final_lr: learning rate at the last step, as a fraction of ``lr``.
        warmup: number of steps of linear warm-up.
        weight_decay: weight decay of matrices; biases, norms and position embeddings have none.
        betas: decay rates of the two moments.
        clip: largest gradient norm; larger gradients are scaled down to it.
        ema: decay of the moving average of the weights, which is what the final checkpoint holds; 0 saves the weights
            themselves.
        only: names of the parameters that learn, or beginnings of names up to a dot (``encoders.images``); ``*``
            matches anything, and empty means all. Everything else stays as it is, bit for bit.
    """

    lr: NonNegative = 1e-3
    final_lr: Probability = 0.01
    warmup: Whole = 100
    weight_decay: NonNegative = 0.01
    betas: tuple[Decay, Decay] = (0.9, 0.95)
    clip: Positive = 1.0
    ema: Decay = 0.995
    only: Words = ()

    def build(self, model: nn.Module) -> torch.optim.AdamW:
        """Optimiser of the model's trainable parameters."""
        trainable = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trainable if p.dim() >= 2], "weight_decay": self.weight_decay},
            {"params": [p for p in trainable if p.dim() < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, fused=True)

    def rate(self, step: int, steps: int) -> float:
        """Learning rate at ``step`` of ``steps``."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, steps - self.warmup)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return self.lr * (self.final_lr + (1 - self.final_lr) * cosine)
