"""Instruction -> tokens of a pretrained text model (`oe.text-vlm`, eqs. 1, 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.contract.protocols import DataSpec, Encoder, EncoderConfig
from wamkit.contract.types import Observation, WindowSpec
from wamkit.errors import ConfigError
from wamkit.nn.pretrained import Host, Source, pin

PART = "encoder 'language_model'"


@EncoderConfig.register_subclass("language_model")
@dataclass(frozen=True)
class LanguageModelConfig(EncoderConfig):
    """Instruction through any text model of `transformers` (survey eqs. 1, 9; Devlin et al. 2019).

    Attributes:
        model: folder or hub id of the model.
        architecture: JSON description of the model's architecture; read from the model when empty.
        layer: name of the layer to read, as in ``model.named_modules()``; empty for the last hidden state.
        pool: pooling of the pieces. ``tokens`` keeps all, ``mean`` averages them, ``first`` and ``last`` take one.
        length: largest number of pieces of an instruction; the rest is cut.
        trainable: true to train the model with the design. A frozen one reads every instruction once.
    """

    model: str = ""
    architecture: str = ""
    layer: str = ""
    pool: Literal["tokens", "mean", "first", "last"] = "tokens"
    length: int = 32
    trainable: bool = False

    def __post_init__(self) -> None:
        """Read what the model is."""
        pin(self, PART)

    @override
    def build(self, data: DataSpec, window: WindowSpec, width: int) -> LanguageModelEncoder:
        """Build; raises :class:`ConfigError` when the model, its tokenizer or its layer is not there."""
        if self.length < 1:
            raise ConfigError(f"{PART}: length = {self.length} leaves nothing of an instruction")
        host = Host(Source(self.model, self.architecture, PART, self.layer, self.trainable), "text")
        return LanguageModelEncoder(self, host, width)


@final
class LanguageModelEncoder(Encoder):
    """N = ``length``, what an instruction does not fill is padding; N = 1 where it is pooled."""

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
            at = last if self.config.pool == "last" else torch.zeros_like(last)
            hidden = hidden[torch.arange(len(at), device=at.device), at][:, None]
        if self.config.pool != "tokens":
            pad = torch.zeros(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
        return (self.project(hidden) + self.kind)[row], pad[row]

    def pieces(self, text: str) -> list[int]:
        """Ids of the pieces of one text, at least one."""
        found = self.host.tool(text, truncation=True, max_length=self.config.length)["input_ids"]
        return list(found) or [0]  # a tokenizer without start and end makes nothing of an empty text

    def read(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Texts -> hidden states (U, length, D) and their padding (U, length)."""
        if self.config.trainable:
            return self.run(texts)
        ids = [self.pieces(text) for text in texts]
        # One by one: the result is the same to the last bit, whatever else is in the batch.
        rows = [self.host.memo.read(text, lambda missed: self.run([missed])[0][0]) for text in texts]
        hidden = torch.stack([row.to(self.kind.device) for row in rows])
        places = torch.arange(self.config.length, device=self.kind.device)
        return hidden, places >= torch.tensor([len(i) for i in ids], device=places.device)[:, None]

    def run(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """The model itself, on all texts at once."""
        ids = torch.zeros(len(texts), self.config.length, dtype=torch.long)
        keep = torch.zeros(len(texts), self.config.length, dtype=torch.long)
        for i, text in enumerate(texts):
            found = self.pieces(text)
            ids[i, : len(found)], keep[i, : len(found)] = torch.tensor(found), 1
        device = self.kind.device
        hidden = self.host(input_ids=ids.to(device), attention_mask=keep.to(device))
        return hidden, keep.to(device) == 0
