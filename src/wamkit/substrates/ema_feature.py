"""Future features of a moving average of the design's own encoder (`bb.jepa-predictor`, eq. 28)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Self, final

import torch
from torch import Tensor
from torch.nn import functional as F

from wamkit.errors import ConfigError, did_you_mean
from wamkit.protocols import Category, DataSpec, Encoder, Substrate, SubstrateConfig
from wamkit.streams import StreamSpec
from wamkit.types import Observation


@SubstrateConfig.register_subclass("ema_feature")
@dataclass(frozen=True)
class EmaFeatureConfig(SubstrateConfig):
    """Features of a moving average of the design's own encoder (I-JEPA, Assran et al. 2023; survey eq. 28).

    Attributes:
        encoder: name of the encoder that is followed.
        decay: of the moving average, per step of the optimiser.
    """

    encoder: str = "images"
    decay: float = 0.996

    def build(self, data: DataSpec) -> EmaFeature:
        """Build the substrate; raises :class:`ConfigError` on a decay outside [0, 1]."""
        if not 0 <= self.decay <= 1:
            raise ConfigError(f"substrate 'ema_feature': decay {self.decay} must be 0 to 1")
        return EmaFeature(self)


@final
class EmaFeature(Substrate):
    """Tokens of the averaged encoder, layer-normalised: (B, T, N, D). No gradient ever reaches the average.

    The predictor reads the trained encoder and a future it has not seen, so the two sides differ (BYOL, Grill et
    al. 2020); the normalisation keeps the target's scale whatever the encoder does.
    """

    category: ClassVar[Category] = "feature"
    variant: ClassVar[str] = "EMA target"

    def __init__(self, config: EmaFeatureConfig) -> None:
        super().__init__()
        self.config = config

    target: Encoder
    shape: tuple[int, int]

    def bind(self, encoders: Mapping[str, Encoder], data: DataSpec) -> None:
        """Copy the encoder that is followed, and see how many tokens it makes of one step."""
        name = self.config.encoder
        if name not in encoders:
            raise ConfigError(
                f"substrate 'ema_feature': unknown encoder {name!r}. {did_you_mean(name, encoders)}"
            )
        if encoders[name].goal:
            raise ConfigError(
                f"substrate 'ema_feature': encoder {name!r} reads the goal, which no future step has. Follow "
                f"another encoder."
            )
        self.extras = encoders[name].extras
        self.target = copy.deepcopy(encoders[name]).eval().requires_grad_(False)
        views = data.observation.cameras.items()
        still = Observation(
            images={k: torch.zeros(1, 1, 3, v.height, v.width, dtype=torch.uint8) for k, v in views},
            state=torch.zeros(1, 1, len(data.observation.state)),
            task=("",),
            pad=torch.zeros(1, 1, dtype=torch.bool),
            extras={
                name: torch.zeros(1, 1, *data.extra(name, "substrate 'ema_feature'")) for name in self.extras
            },
        )
        n, d = self.encode(still).shape[2:]
        self.shape = (n, d)

    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        """See :class:`wamkit.protocols.Substrate`."""
        return StreamSpec(name, role, steps, *self.shape)

    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        """Every step is encoded on its own."""
        rows, steps = observation.pad.shape

        def apart(values: Tensor) -> Tensor:
            return values.flatten(0, 1)[:, None]

        alone = Observation(
            images={k: apart(v) for k, v in observation.images.items()},
            state=apart(observation.state),
            task=tuple(task for task in observation.task for _ in range(steps)),
            pad=torch.zeros_like(
                apart(observation.pad)
            ),  # a padded step repeats its neighbour; the loss skips it
            extras={k: apart(v) for k, v in observation.extras.items()},
            missing={k: apart(v) for k, v in observation.missing.items()},
        )
        tokens, _ = self.target(alone)
        return F.layer_norm(tokens, tokens.shape[-1:]).unflatten(0, (rows, steps))

    @torch.no_grad()
    def after_step(self, encoders: Mapping[str, Encoder]) -> None:
        """average <- decay * average + (1 - decay) * encoder; buffers are copied."""
        online = encoders[self.config.encoder]
        for mean, value in zip(self.target.parameters(), online.parameters(), strict=True):
            mean.mul_(self.config.decay).add_(value, alpha=1 - self.config.decay)
        for mean, value in zip(self.target.buffers(), online.buffers(), strict=True):
            mean.copy_(value)

    def train(self, mode: bool = True) -> Self:
        """The average is never in training mode: its targets carry no augmentation."""
        super().train(mode)
        self.target.eval()
        return self
