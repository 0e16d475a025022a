"""Learned tokens of the context, such as a prompt for the robot's body (`oe.body-sensors`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.config.ranges import Size
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Encoder, EncoderConfig
from wamkit.contract.types import Observation, WindowSpec


@EncoderConfig.register_subclass("soft_prompt")
@dataclass(frozen=True)
class SoftPromptConfig(EncoderConfig):
    """Learned tokens that say which robot this is, whatever it sees (Lester et al. 2021; X-VLA).

    A design for another robot starts from a trained one, keeps everything else (``fresh`` names this encoder and the
    action's estimator) and learns a prompt of its own (``optim.only``).

    Attributes:
        tokens: number of tokens.
    """

    tokens: Size = 4

    @override
    def build(self, data: DataSpec, window: WindowSpec, width: int) -> SoftPrompt:
        """Build the encoder; it reads nothing of the data."""
        return SoftPrompt(self, width)


@final
class SoftPrompt(Encoder):
    """Tokens (B, tokens, D), the same for every observation."""

    def __init__(self, config: SoftPromptConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Parameter(torch.randn(config.tokens, width) * 0.02)

    @override
    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        rows = observation.batch_size
        pad = torch.zeros(rows, len(self.tokens), dtype=torch.bool, device=self.tokens.device)
        return self.tokens.expand(rows, -1, -1), pad
