"""Proprioception -> one token per observed step (`oe.body-sensors`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.config.ranges import Magnitude, Probability
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Encoder, EncoderConfig
from wamkit.contract.types import Observation, WindowSpec
from wamkit.nn.transforms import Mode, Normalizer


@EncoderConfig.register_subclass("state")
@dataclass(frozen=True)
class StateConfig(EncoderConfig):
    """Proprioceptive state, normalised, one token per observed step (as in ACT, Zhao et al. 2023).

    Attributes:
        normalization: statistics that normalise the state.
        dropout: probability that the state of a training row is masked. This prevents the shortcut of inferring the
            phase of the task from the arm instead of from the images.
        noise: standard deviation of Gaussian noise added to the normalised state in training.
    """

    normalization: Mode = "mean_std"
    dropout: Probability = 0.0
    noise: Magnitude = 0.0

    @override
    def build(self, data: DataSpec, window: WindowSpec, width: int) -> StateEncoder:
        return StateEncoder(self, data, window, width)


@final
class StateEncoder(Encoder):
    """Normalised ``observation.state`` as tokens, N = observed steps."""

    def __init__(self, config: StateConfig, data: DataSpec, window: WindowSpec, width: int) -> None:
        super().__init__()
        self.config = config
        self.normalize = Normalizer(data.stats, "observation.state", config.normalization)
        self.embed = nn.Sequential(
            nn.Linear(len(data.observation.state), width), nn.GELU(), nn.Linear(width, width)
        )
        self.missing = nn.Parameter(torch.randn(width) * 0.02)
        self.time = nn.Parameter(torch.randn(len(window.observation), width) * 0.02)

    @override
    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        state = self.normalize(observation.state)
        if self.training and self.config.noise:
            state = state + self.config.noise * torch.randn_like(state)
        if observation.state_columns is not None:  # a column that the robot does not have adds nothing
            state = state.masked_fill(~observation.state_columns[:, None], 0.0)
        tokens = self.embed(state)
        if self.training and self.config.dropout:
            missing = torch.rand(tokens.shape[0], 1, 1, device=tokens.device) < self.config.dropout
            tokens = torch.where(missing, self.missing.expand_as(tokens), tokens)
        return tokens + self.time[-tokens.shape[1] :], observation.pad
