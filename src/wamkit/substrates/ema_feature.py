"""Future features under a moving average of the design's own encoder (`bb.jepa-predictor`, eq. 28)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Self, final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Probability, Word
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Category, Encoder, Substrate, SubstrateConfig
from wamkit.contract.streams import StreamSpec
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError, did_you_mean


@SubstrateConfig.register_subclass("ema_feature")
@dataclass(frozen=True)
class EmaFeatureConfig(SubstrateConfig):
    """Features of a moving average of the design's own encoder (I-JEPA, Assran et al. 2023; survey eq. 28).

    Attributes:
        encoder: name of the encoder to average.
        decay: decay of the moving average per optimiser step; 1 keeps the first weights.
    """

    extras: ClassVar[tuple[str, ...]] = ("(those of the encoder)",)
    encoder: Word = "images"
    decay: Probability = 0.996

    @override
    def build(self, data: DataSpec) -> EmaFeature:
        """Build the substrate."""
        return EmaFeature(self)


@final
class EmaFeature(Substrate):
    """Standardised tokens of the averaged encoder, (B, T, N, D). No gradient reaches the average.

    Every token is centred by its mean and scaled by a single standard deviation: those of the batch in training,
    moving averages of them afterwards (the batch normalisation of BYOL's target, Grill et al. 2020; the centring of
    DINO, Caron et al. 2021). Content that all observations share thus earns nothing, and an encoder cannot make the
    target easier by shrinking.
    """

    category: ClassVar[Category] = "feature"
    variant: ClassVar[str] = "EMA target"
    moving = True

    def __init__(self, config: EmaFeatureConfig) -> None:
        super().__init__()
        self.config = config
        self.bound = False
        self.register_buffer("mean", torch.zeros(1, 1))
        self.register_buffer("variance", torch.ones(1, 1))
        self.register_buffer("seen", torch.zeros((), dtype=torch.bool))

    target: Encoder
    mean: Tensor
    variance: Tensor
    seen: Tensor

    @override
    def cell(self) -> tuple[tuple[str, str], ...]:
        """The survey's cell of features that a network without gradient provides."""
        return (("Feature", "teacher"),)

    @override
    def bind(self, encoders: Mapping[str, Encoder], data: DataSpec) -> None:
        """Copy the encoder to average and measure the number of tokens it makes of one step."""
        name = self.config.encoder
        if name not in encoders:
            raise ConfigError(
                f"substrate 'ema_feature': unknown encoder {name!r}. {did_you_mean(name, encoders)}"
            )
        if encoders[name].goal:
            raise ConfigError(
                f"substrate 'ema_feature': encoder {name!r} reads the goal, which future steps do not have. "
                f"Average another encoder."
            )
        self.extras = encoders[name].extras
        self.target = copy.deepcopy(encoders[name]).eval().requires_grad_(False)
        views = data.observation.cameras.items()
        blank = Observation(
            images={k: torch.zeros(1, 1, 3, v.height, v.width, dtype=torch.uint8) for k, v in views},
            state=torch.zeros(1, 1, len(data.observation.state)),
            task=("",),
            pad=torch.zeros(1, 1, dtype=torch.bool),
            extras={
                name: torch.zeros(1, 1, *data.extra(name, "substrate 'ema_feature'")) for name in self.extras
            },
        )
        shape = self.tokens(blank).shape[2:]
        self.mean, self.variance = torch.zeros(shape), torch.ones(shape[0], 1)
        self.bound = True

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        if not self.bound:
            raise ConfigError(
                "substrate 'ema_feature' averages an encoder of its design and cannot be nested in another "
                "substrate. Name it in `substrates` directly."
            )
        tokens, features = self.mean.shape
        return StreamSpec(name, role, steps, tokens, features)

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        """Standardise the averaged encoder's tokens; in training mode, with the moments of the batch."""
        values = self.tokens(observation)
        if self.training:
            variance, mean = torch.var_mean(values, dim=(0, 1), correction=0)
            variance = variance.mean(dim=-1, keepdim=True)
            weight = torch.where(self.seen, 1 - self.config.decay, 1.0)
            self.mean.lerp_(mean, weight)
            self.variance.lerp_(variance, weight)
            self.seen.fill_(True)
        else:
            mean, variance = self.mean, self.variance
        return (values - mean) / (variance + 1e-8).sqrt()

    @torch.no_grad()
    def tokens(self, observation: Observation) -> Tensor:
        """Tokens (B, T, N, D) that the averaged encoder makes of every step on its own."""
        rows, steps = observation.pad.shape

        def one_step_rows(values: Tensor) -> Tensor:
            return values.flatten(0, 1)[:, None]

        single_steps = Observation(
            images={k: one_step_rows(v) for k, v in observation.images.items()},
            state=one_step_rows(observation.state),
            task=tuple(task for task in observation.task for _ in range(steps)),
            # A padded step repeats its neighbour, and the loss skips it.
            pad=torch.zeros_like(one_step_rows(observation.pad)),
            extras={k: one_step_rows(v) for k, v in observation.extras.items()},
            missing={k: one_step_rows(v) for k, v in observation.missing.items()},
        )
        tokens, _ = self.target(single_steps)
        return tokens.unflatten(0, (rows, steps))

    @override
    @torch.no_grad()
    def after_step(self, encoders: Mapping[str, Encoder]) -> None:
        """Update average <- decay * average + (1 - decay) * encoder, and copy the buffers."""
        online = encoders[self.config.encoder]
        for mean, value in zip(self.target.parameters(), online.parameters(), strict=True):
            mean.mul_(self.config.decay).add_(value, alpha=1 - self.config.decay)
        for kept, new in zip(self.target.buffers(), online.buffers(), strict=True):
            kept.copy_(new)

    @override
    def train(self, mode: bool = True) -> Self:
        """Set the mode of all but the average, which stays in evaluation mode: its targets carry no augmentation."""
        super().train(mode)
        self.target.eval()
        return self
