"""Instruction -> tokens of a pretrained text model (`oe.text-vlm`, eqs. 1, 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.config.ranges import Size
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Encoder, EncoderConfig
from wamkit.contract.types import Observation, WindowSpec
from wamkit.nn.pretrained import Host, Source, pin

PART = "encoder 'language_model'"


@EncoderConfig.register_subclass("language_model")
@dataclass(frozen=True)
class LanguageModelConfig(EncoderConfig):
    """Instruction through a text model of `transformers`, such as BERT (survey eqs. 1, 9; Devlin et al. 2019).

    Attributes:
        model: folder or hub id of the model.
        architecture: config of the model as JSON, filled in when empty.
        layer: name of the layer to read, as in ``model.named_modules()``; empty for the last hidden state.
        pool: pooling of the model's tokens: ``tokens`` keeps all, ``mean`` averages them, ``first`` and ``last`` take
            one.
        length: longest instruction in tokens; the rest is cut off.
        trainable: true to train the model with the design. Hidden states of a frozen model are cached per instruction.
    """

    packages: ClassVar[tuple[str, ...]] = ("pretrained",)
    model: str = ""
    architecture: str = ""
    layer: str = ""
    pool: Literal["tokens", "mean", "first", "last"] = "tokens"
    length: Size = 32
    trainable: bool = False

    def __post_init__(self) -> None:
        """Pin the config of the model into ``architecture``."""
        pin(self, PART)

    @override
    def build(self, data: DataSpec, window: WindowSpec, width: int) -> LanguageModelEncoder:
        """Build; raises :class:`ConfigError` when the model, its tokenizer or its layer is missing."""
        host = Host(Source(self.model, self.architecture, PART, self.layer, self.trainable), "text")
        return LanguageModelEncoder(self, host, width)


@final
class LanguageModelEncoder(Encoder):
    """Instruction tokens, N = ``length`` with padding; N = 1 where pooled."""

    def __init__(self, config: LanguageModelConfig, host: Host, width: int) -> None:
        super().__init__()
        self.config, self.host = config, host
        size = int(host.settings.hidden_size)
        self.project = nn.Sequential(nn.LayerNorm(size), nn.Linear(size, width))
        self.kind = nn.Parameter(torch.randn(width) * 0.02)

    @override
    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        distinct = sorted(set(observation.task))
        row = torch.tensor([distinct.index(text) for text in observation.task], device=self.kind.device)
        hidden, pad = self.read(distinct)
        if self.config.pool == "mean":
            keep = (~pad)[..., None].to(hidden.dtype)
            hidden = (hidden * keep).sum(dim=1, keepdim=True) / keep.sum(dim=1, keepdim=True)
        elif self.config.pool != "tokens":
            last = (~pad).sum(dim=1) - 1
            index = last if self.config.pool == "last" else torch.zeros_like(last)
            hidden = hidden[torch.arange(len(index), device=index.device), index][:, None]
        if self.config.pool != "tokens":
            pad = torch.zeros(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
        return (self.project(hidden) + self.kind)[row], pad[row]

    def pieces(self, text: str) -> list[int]:
        """Token ids of a text, at least one."""
        ids = self.host.tool(text, truncation=True, max_length=self.config.length)["input_ids"]
        # A tokenizer without start and end tokens returns no ids for an empty text.
        return list(ids) or [0]

    def read(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Texts -> hidden states (U, length, D) and their padding (U, length), cached where the model is frozen."""
        if self.config.trainable:
            return self.run(texts)
        ids = [self.pieces(text) for text in texts]
        # One by one: the result is the same to the last bit, whatever else is in the batch.
        rows = [self.host.memo.read(text, lambda missed: self.run([missed])[0][0]) for text in texts]
        hidden = torch.stack([row.to(self.kind.device) for row in rows])
        positions = torch.arange(self.config.length, device=self.kind.device)
        return hidden, positions >= torch.tensor([len(i) for i in ids], device=positions.device)[:, None]

    def run(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Run the model on all texts at once: hidden states (U, length, D) and their padding (U, length)."""
        ids = torch.zeros(len(texts), self.config.length, dtype=torch.long)
        keep = torch.zeros(len(texts), self.config.length, dtype=torch.long)
        for i, text in enumerate(texts):
            pieces = self.pieces(text)
            ids[i, : len(pieces)], keep[i, : len(pieces)] = torch.tensor(pieces), 1
        device = self.kind.device
        hidden = self.host(input_ids=ids.to(device), attention_mask=keep.to(device))
        return hidden, keep.to(device) == 0
