"""Token ids of any continuous substrate: the nearest of a codebook's entries (VQ-VAE, van den Oord et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, final

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from wamkit.errors import ConfigError, DataError
from wamkit.protocols import DataSpec, Substrate, SubstrateConfig, Windows
from wamkit.streams import Reading, StreamSpec
from wamkit.substrates.pixel_latent import PixelLatentConfig
from wamkit.types import Observation, WindowSpec

FIT_WINDOWS = 512
FIT_OFFSET = 8  # ticks ahead at which targets that are relative to "now" are read for the codebook


@SubstrateConfig.register_subclass("quantized")
@dataclass(frozen=True)
class QuantizedConfig(SubstrateConfig):
    """Codebook over the tokens of another substrate (k-means; VQ-VAE, van den Oord et al. 2017).

    Attributes:
        inner: the continuous substrate.
        vocabulary: number of entries.
    """

    inner: SubstrateConfig = field(default_factory=PixelLatentConfig)
    vocabulary: int = 128

    def build(self, data: DataSpec) -> Quantized:
        """Build; raises :class:`ConfigError` when the inner substrate has token ids already."""
        inner = self.inner.build(data)
        if inner.moving:
            raise ConfigError(
                "substrate 'quantized': the inner substrate's values move while the design trains, so no codebook can "
                "be fitted to them. Quantise a frozen one."
            )
        spec = inner.spec("future", "future", 1)
        if spec.vocabulary is not None:
            raise ConfigError(
                "substrate 'quantized': the inner substrate has token ids already; use it as it is"
            )
        return Quantized(self, inner, spec.features)


@final
class Quantized(Substrate):
    """Every token of the inner substrate becomes the id of its nearest codebook entry."""

    centres: Tensor

    def __init__(self, config: QuantizedConfig, inner: Substrate, features: int) -> None:
        super().__init__()
        self.config = config
        self.inner = inner
        self.extras = inner.extras
        self.relative = inner.relative
        self.decodable = inner.decodable
        self.register_buffer("centres", torch.zeros(config.vocabulary, features))

    def label(self) -> str:
        """That of the inner substrate: ids are a representation, not another place for the future."""
        return self.inner.label()

    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        """See :class:`wamkit.protocols.Substrate`."""
        inner = self.inner.spec(name, role, steps)
        return StreamSpec(name, role, steps, inner.tokens, 1, self.config.vocabulary)

    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        """(B, T) observations -> ids (B, T, N)."""
        values = self.inner.encode(observation, now)
        return (
            torch.cdist(values.flatten(0, 1), self.centres[None])
            .argmin(dim=-1)
            .unflatten(0, values.shape[:2])
        )

    def decode(self, values: Tensor) -> dict[str, Tensor]:
        """Ids -> what the inner substrate makes of their codebook entries."""
        return self.inner.decode(self.centres[values])

    def readings(self, values: Tensor) -> dict[str, Reading]:
        """What the inner substrate reads off the codebook entries."""
        return self.inner.readings(self.centres[values])

    def fit(self, windows: Windows, seed: int) -> None:
        """Fit the inner substrate, then the codebook on its tokens of frames drawn from the dataset."""
        self.inner.fit(windows, seed)
        rng = np.random.default_rng(seed)
        index = np.sort(
            rng.choice(windows.num_frames, size=min(FIT_WINDOWS, windows.num_frames), replace=False)
        )
        batch = windows.windows(index, WindowSpec(horizon=1, future=(FIT_OFFSET,)))
        assert batch.future is not None
        tokens = (
            self.inner.encode(batch.future, batch.observation).flatten(0, 2).cpu().numpy().astype(np.float64)
        )
        distinct = len(np.unique(tokens, axis=0))
        if distinct < self.config.vocabulary:
            raise DataError(
                f"substrate 'quantized': {distinct} distinct tokens cannot fill a codebook of "
                f"{self.config.vocabulary} entries. Lower `vocabulary` or use more data."
            )
        points = tokens[rng.permutation(len(tokens))[: 64 * self.config.vocabulary]]
        centres, _ = kmeans2(points, self.config.vocabulary, iter=15, minit="++", rng=rng)
        self.centres = torch.from_numpy(centres).float().to(self.centres.device)
