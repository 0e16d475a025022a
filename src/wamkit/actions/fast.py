"""Frequency-space action tokens (`ar.discrete-tokens`): FAST, Pertsch et al. 2025, section IV.

A chunk is normalised by quantiles, transformed to cosine coefficients per dimension, scaled, rounded and flattened
with the lowest frequencies of all dimensions first. Byte-pair merges learned on the training chunks compress the
result. Smooth motion has few significant coefficients and therefore few tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, final

import numpy as np
import scipy
import torch
from torch import Tensor
from typing_extensions import override

from wamkit.actions import byte_pairs
from wamkit.actions.demonstrated import demonstrated_chunks
from wamkit.config.ranges import Positive, Range, Size
from wamkit.contract.data import DataSpec, Windows
from wamkit.contract.protocols import ActionConfig, ActionRepresentation
from wamkit.contract.streams import StreamSpec
from wamkit.errors import ConfigError, DataError, SpecError
from wamkit.nn.transforms import Normalizer, quantile_range

PAD = 0  # id of the padding after a short code
FIT_CHUNKS = 2000  # training chunks that merges are learned on


@ActionConfig.register_subclass("fast")
@dataclass(frozen=True)
class FastConfig(ActionConfig):
    """Discrete actions: cosine transform and byte-pair merges, learned on the data (FAST, Pertsch et al. 2025).

    Attributes:
        scale: quantisation steps per unit of a coefficient. The root mean square error of a dimension over the
            chunk is at most ``0.5 / scale``, in units of half the range between its 1 % and 99 % quantiles.
        vocabulary: total number of token ids: the padding, the values of a coefficient, and merges for the rest.
        tokens: padded length of the code. None for one token per coefficient, which always suffices. A longer code
            is cut at its end, losing the highest frequencies.
        reach: largest magnitude of a normalised value; larger ones saturate. The quantiles are at 1.
    """

    scale: Positive = 10.0
    vocabulary: Annotated[int, Range(4, 16777216)] = 1024
    tokens: Size | None = None
    reach: Positive = 1.5

    @override
    def build(self, data: DataSpec, horizon: int) -> Fast:
        """Build; raises :class:`ConfigError` when the vocabulary is too small for a coefficient."""
        # The orthonormal transform of values up to `reach` stays below reach * sqrt(H).
        largest = math.ceil(self.scale * self.reach * math.sqrt(horizon))
        least = 2 * largest + 2
        if self.vocabulary < least:
            raise ConfigError(
                f"action fast: vocabulary {self.vocabulary} is too small for coefficients up to +-{largest}; "
                f"set it to more than {least}, or use a smaller scale than {self.scale}"
            )
        return Fast(self, data, horizon, largest)


@final
class Fast(ActionRepresentation):
    """FAST tokens: (B, H, A) physical <-> (B, 1, tokens) ids; the whole chunk is one step.

    A token mixes columns, so the constant of a column that a robot does not have is learned as part of the others.
    """

    merges: Tensor
    transform: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, config: FastConfig, data: DataSpec, horizon: int, largest: int) -> None:
        super().__init__()
        self.config = config
        self.horizon = horizon
        self.width = data.action.width
        self.largest = largest
        self.alphabet = 2 * largest + 1
        self.length = horizon * self.width if config.tokens is None else config.tokens
        # Movements below one step of quantisation of the whole range are standing still.
        least, most = quantile_range(data.stats, "action", resolution=0.5 / config.scale)
        self.normalize = Normalizer({"action": {"min": least, "max": most}}, "action", "min_max")
        room = config.vocabulary - self.alphabet - 1
        # Learned, hence saved with the weights. Rows of -1 are unused merges.
        self.register_buffer("merges", torch.full((room, 2), -1, dtype=torch.long))
        matrix = torch.from_numpy(scipy.fft.dct(np.eye(horizon), axis=0, norm="ortho").astype(np.float32))
        self.register_buffer("transform", matrix, persistent=False)
        self.register_buffer("low", torch.tensor(data.action.low), persistent=False)
        self.register_buffer("high", torch.tensor(data.action.high), persistent=False)

    @override
    def spec(self, name: str) -> StreamSpec:
        return StreamSpec(name, "action", 1, self.length, 1, self.config.vocabulary, self.horizon)

    def _learned(self) -> list[byte_pairs.Pair]:
        return [(int(a), int(b)) for a, b in self.merges.tolist() if a >= 0]

    def symbols(self, action: Tensor) -> np.ndarray:
        """Quantise (B, H, A) to coefficients as symbols (B, H * A), low frequencies first."""
        if action.shape[1] != self.horizon:
            raise SpecError(
                f"action fast codes chunks of {self.horizon} ticks as a whole, but got {action.shape[1]} ticks. "
                f"A design that keeps its past needs stride = horizon = {self.horizon}, or another representation."
            )
        reach = self.config.reach
        coefficients = self.transform @ self.normalize(action).clamp(-reach, reach)
        steps = (coefficients * self.config.scale).round().clamp(-self.largest, self.largest)
        return (steps.long() + self.largest).flatten(1).cpu().numpy()

    @override
    def encode(self, action: Tensor) -> Tensor:
        """Encode (B, H, A) as int64 ids (B, 1, tokens); raises :class:`SpecError` on chunks of another length."""
        codes = byte_pairs.apply_merges(self.symbols(action), self.alphabet, self._learned())
        ids = np.full((len(codes), self.length), PAD)
        for row, code in zip(ids, codes, strict=True):
            kept = code[: self.length]
            row[: len(kept)] = kept + 1
        return torch.from_numpy(ids).to(action.device)[:, None]

    @override
    def decode(self, values: Tensor) -> Tensor:
        """Decode any ids (B, 1, tokens) to (B, H, A), clipped to the limits; missing coefficients are zero."""
        table = [[], *byte_pairs.expansions(self.alphabet, self._learned())]
        table += [[] for _ in range(self.config.vocabulary - len(table))]  # ids of unused merges
        size = self.horizon * self.width
        steps = np.full((len(values), size), self.largest)
        for row, ids in zip(steps, values[:, 0].tolist(), strict=True):
            symbols = [symbol for i in ids for symbol in table[i]][:size]
            row[: len(symbols)] = symbols
        coefficients = torch.from_numpy((steps - self.largest) / self.config.scale).to(self.transform)
        chunk = self.transform.T @ coefficients.unflatten(1, (self.horizon, self.width))
        return self.normalize.inverse(chunk).clamp(self.low, self.high)

    @override
    @torch.no_grad()
    def fit(self, windows: Windows, seed: int) -> None:
        """Learn the merges; raises :class:`DataError` when a training chunk needs more than ``tokens`` tokens."""
        chunks = demonstrated_chunks(windows, self.horizon, FIT_CHUNKS, seed)
        rows = self.symbols(torch.cat([part for part, _ in chunks]).to(self.low.device))
        learned = byte_pairs.learn_merges(rows, self.alphabet, len(self.merges))
        self.merges.fill_(-1)
        if learned:
            self.merges[: len(learned)] = torch.tensor(learned)
        longest = max(len(code) for code in byte_pairs.apply_merges(rows, self.alphabet, learned))
        if longest > self.length:
            raise DataError(
                f"action fast: a training chunk needs {longest} tokens, but `tokens` is {self.length}. "
                f"Set it to {longest} or more, or lower `scale` ({self.config.scale})."
            )
