"""Token ids of any continuous substrate: the nearest codebook entries (VQ-VAE, van den Oord et al. 2017).

With several scales, a pyramid of ids that refine each other from coarse to fine (VAR, Tian et al. 2024).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, final

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Range
from wamkit.contract.data import DataSpec, Windows
from wamkit.contract.protocols import Substrate, SubstrateConfig
from wamkit.contract.scales import Ladder, halved
from wamkit.contract.streams import Reading, StreamSpec
from wamkit.contract.types import Observation, WindowSpec
from wamkit.errors import ConfigError
from wamkit.substrates.codebook import fit_codebook, fit_shared, quantise, require_distinct, restore
from wamkit.substrates.pixel_latent import PixelLatentConfig

FIT_WINDOWS = 512
FIT_OFFSET = 8  # ticks after "now" of the future steps that the codebook is fitted to


@SubstrateConfig.register_subclass("quantized")
@dataclass(frozen=True)
class QuantizedConfig(SubstrateConfig):
    """Codebook over the tokens of another substrate (k-means; VQ-VAE, van den Oord et al. 2017).

    Attributes:
        inner: continuous substrate that is quantised.
        vocabulary: number of codebook entries.
        scales: number of token grids, from coarse to fine, each half as wide as the next. Every scale quantises the
            residual of the coarser ones; all share the codebook, whose entry 0 adds nothing.
    """

    extras: ClassVar[tuple[str, ...]] = ("(those of `inner`)",)
    inner: SubstrateConfig = field(default_factory=PixelLatentConfig)
    vocabulary: Annotated[int, Range(2, 65536)] = 128
    scales: Annotated[int, Range(1, 32)] = 1

    @override
    def build(self, data: DataSpec) -> Quantized:
        """Build; raises :class:`ConfigError` when the inner substrate is discrete or moves in training."""
        inner = self.inner.build(data)
        if inner.moving:
            raise ConfigError(
                "substrate 'quantized': the inner substrate's values move while the design trains, so a codebook "
                "cannot be fitted to them. Quantise a frozen substrate."
            )
        spec = inner.spec("future", "future", 1)
        if spec.vocabulary is not None:
            raise ConfigError(
                "substrate 'quantized': the inner substrate has token ids already; use it directly"
            )
        return Quantized(self, inner, spec.features)


@final
class Quantized(Substrate):
    """Ids of the codebook entries nearest to the inner substrate's tokens; with scales, one grid of ids per scale."""

    centres: Tensor

    def __init__(self, config: QuantizedConfig, inner: Substrate, features: int) -> None:
        super().__init__()
        self.config = config
        self.inner = inner
        self.extras = inner.extras
        self.relative = inner.relative
        self.decodable = inner.decodable
        self.standing = inner.standing
        self.scales = halved(inner.grids(), config.scales)
        self.ladder = Ladder(self.scales)
        self.register_buffer("centres", torch.zeros(config.vocabulary, features))

    @override
    def cell(self) -> tuple[tuple[str, str], ...]:
        return self.inner.cell()

    @override
    def label(self) -> str:
        """Label of the inner substrate: quantisation changes the representation, not the substrate."""
        return self.inner.label()

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        tokens, scales = sum(self.ladder.lengths), self.scales if self.config.scales > 1 else ()
        return StreamSpec(name, role, steps, tokens, 1, self.config.vocabulary, scales=scales)

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        """Ids (B, T, N) of observations, the coarsest scale first."""
        ids, _ = quantise(self.inner.encode(observation, now), self.centres, self.ladder)
        return torch.cat(ids, dim=2)

    def entries(self, ids: Tensor) -> Tensor:
        """Values (B, T, N', D) of the inner substrate: the entries of ids (B, T, N), summed over the scales."""
        return restore(self.ladder.split(ids), self.centres, self.ladder)

    @override
    def decode(self, values: Tensor) -> dict[str, Tensor]:
        """Decode the codebook entries of the ids with the inner substrate."""
        return self.inner.decode(self.entries(values))

    @override
    def readings(self, values: Tensor) -> dict[str, Reading]:
        """Readings of the inner substrate from the codebook entries."""
        return self.inner.readings(self.entries(values))

    @override
    def fit(self, windows: Windows, seed: int) -> None:
        """Fit the inner substrate, then the codebook to its tokens for windows drawn from the dataset."""
        self.inner.fit(windows, seed)
        rng = np.random.default_rng(seed)
        index = np.sort(
            rng.choice(windows.num_frames, size=min(FIT_WINDOWS, windows.num_frames), replace=False)
        )
        batch = windows.windows(index, WindowSpec(horizon=1, future=(FIT_OFFSET,)))
        assert batch.future is not None
        values = self.inner.encode(batch.future, batch.observation)
        size, tokens = self.config.vocabulary, values.flatten(0, 2)
        require_distinct(tokens, size, "substrate 'quantized'")
        shared = self.config.scales > 1
        self.centres = (
            fit_shared(values, size, self.ladder, rng) if shared else fit_codebook(tokens, size, rng)
        )
