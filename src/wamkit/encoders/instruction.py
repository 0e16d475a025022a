"""Instruction -> tokens, encoded from bytes, without a vocabulary file (`oe.text-vlm`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.config.ranges import Room, Size
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Encoder, EncoderConfig
from wamkit.contract.types import Observation, WindowSpec

# What stands between the phrases of an instruction; it is not read.
BETWEEN = re.compile(r"\b(?:and|then|to|from|on|onto|in|into|with|of|under|over|by|at)\b|[,;.:]")


def phrases_of(text: str) -> list[str]:
    """Phrases of an instruction in lower case, in their order; the text itself where it has none."""
    found = [" ".join(part.split()) for part in BETWEEN.split(text.lower())]
    return [part for part in found if part] or [text]


@EncoderConfig.register_subclass("instruction")
@dataclass(frozen=True)
class InstructionConfig(EncoderConfig):
    """Convolutions and attention pooling over the bytes of the instruction (Kim 2014; Lin et al. 2017).

    Attributes:
        tokens: number of tokens that the instruction is pooled to.
        length: longest instruction in bytes; the rest is cut off.
        hidden: features per byte.
        phrases: largest number of phrases that are encoded apart, as a set (RoboDreamer, Zhou et al. 2024); 0 encodes
            the instruction as a whole. Prepositions, conjunctions and punctuation divide phrases; further phrases are
            left out.
    """

    tokens: Size = 1
    length: Size = 96
    hidden: Size = 64
    phrases: Room = 0

    @override
    def build(self, data: DataSpec, window: WindowSpec, width: int) -> InstructionEncoder:
        return InstructionEncoder(self, width)


@final
class InstructionEncoder(Encoder):
    """Instructions as N = ``tokens`` tokens, or ``phrases * tokens``; every distinct text is encoded once."""

    def __init__(self, config: InstructionConfig, width: int) -> None:
        super().__init__()
        self.config = config
        h = config.hidden
        self.embed = nn.Embedding(257, h, padding_idx=256)
        self.mix = nn.Sequential(
            nn.Conv1d(h, h, 5, padding=2), nn.GELU(), nn.Conv1d(h, h, 5, padding=2), nn.GELU()
        )
        self.score = nn.Linear(h, config.tokens)
        self.project = nn.Sequential(nn.LayerNorm(h), nn.Linear(h, width))
        self.kind = nn.Parameter(torch.randn(width) * 0.02)

    @override
    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        if self.config.phrases:
            return self._composed(observation.task)
        distinct = sorted(set(observation.task))
        row = torch.tensor([distinct.index(text) for text in observation.task], device=self.kind.device)
        tokens = self.encode(distinct)[row]
        return tokens, torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)

    def _composed(self, tasks: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        """Tokens of every phrase by itself, without its place in the instruction; padding after the last phrase."""
        limit = self.config.phrases
        rows = [phrases_of(task)[:limit] for task in tasks]
        distinct = sorted({phrase for row in rows for phrase in row})
        index = [[distinct.index(phrase) for phrase in row] + [0] * (limit - len(row)) for row in rows]
        places = torch.tensor(index, device=self.kind.device)
        lengths = torch.tensor([len(row) for row in rows], device=self.kind.device)
        pad = torch.arange(limit, device=self.kind.device) >= lengths[:, None]
        tokens = self.encode(distinct)[places].flatten(1, 2)
        return tokens, pad.repeat_interleave(self.config.tokens, dim=1)

    def encode(self, texts: list[str]) -> Tensor:
        """Texts -> tokens (U, tokens, width), where U is the number of texts."""
        ids = torch.full((len(texts), self.config.length), 256, dtype=torch.long)
        for i, text in enumerate(texts):
            raw = list(text.encode()[: self.config.length]) or [32]
            ids[i, : len(raw)] = torch.tensor(raw)
        ids = ids.to(self.kind.device)
        x = self.mix(self.embed(ids).transpose(1, 2)).transpose(1, 2)  # (U, L, h)
        weights = self.score(x).masked_fill((ids == 256)[..., None], float("-inf")).softmax(dim=1)
        return self.project(weights.transpose(1, 2) @ x) + self.kind
