"""Past motion between the observed steps, as tokens (`mm.sparse-history`; hindsight of HiF-VLA)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.contract.data import DataSpec, Windows
from wamkit.contract.protocols import Encoder, EncoderConfig, Substrate, SubstrateConfig
from wamkit.contract.types import Observation, WindowSpec
from wamkit.errors import ConfigError

PLACE = "encoder 'past_motion'"


@EncoderConfig.register_subclass("past_motion")
@dataclass(frozen=True)
class PastMotionConfig(EncoderConfig):
    """Motion between consecutive observed steps in a representation of the future, looked back at (HiF-VLA, 2025).

    Attributes:
        motion: substrate whose values are relative to now, such as ``motion_vectors``; each observed step but the
            first is encoded relative to the one before it.
    """

    motion: SubstrateConfig | None = None

    @override
    def build(self, data: DataSpec, window: WindowSpec, width: int) -> PastMotion:
        """Build; raises :class:`ConfigError` unless motion can be measured between at least two observed steps."""
        if self.motion is None:
            raise ConfigError(
                f"{PLACE}: name the substrate that measures `motion`, such as 'motion_vectors'."
            )
        if len(window.observation) < 2:
            raise ConfigError(
                f"{PLACE}: observation {window.observation} shows one step, between which nothing moves. Add earlier "
                f"offsets to `observation`."
            )
        substrate = self.motion.build(data)
        if not substrate.relative or substrate.spec("past", "future", 1).vocabulary:
            raise ConfigError(
                f"{PLACE}: {substrate.label()} measures no continuous motion since an earlier step. Choose a motion "
                f"substrate such as 'motion_vectors', 'optical_flow' or 'pose_stream'."
            )
        return PastMotion(self, substrate, len(window.observation), width)


@final
class PastMotion(Encoder):
    """Tokens of the substrate between consecutive observed steps, N = (steps - 1) x tokens of a step."""

    def __init__(self, config: PastMotionConfig, substrate: Substrate, steps: int, width: int) -> None:
        super().__init__()
        self.config, self.substrate, self.extras = config, substrate, substrate.extras
        spec = substrate.spec("past", "future", 1)
        self.embed = nn.Linear(spec.features, width)
        self.position = nn.Parameter(torch.randn(steps - 1, spec.tokens, width) * 0.02)

    @override
    def fit(self, windows: Windows, seed: int) -> None:
        """Fit the substrate, if it has anything to fit."""
        self.substrate.fit(windows, seed)

    def moved(self, observation: Observation) -> Tensor:
        """Motion (B, steps - 1, N, D) between consecutive observed steps."""
        pairs = pairwise(range(observation.pad.shape[1]))
        return torch.cat(
            [self.substrate.encode(observation.steps([j]), observation.steps([i])) for i, j in pairs], dim=1
        )

    @override
    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        """Return tokens and padding; a motion is padding where one of its two steps is."""
        tokens = self.embed(self.moved(observation)) + self.position
        pad = observation.pad[:, :-1] | observation.pad[:, 1:]
        return tokens.flatten(1, 2), pad.repeat_interleave(tokens.shape[2], dim=1)
