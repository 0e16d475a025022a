"""Instruction -> one token per byte-pair piece, with a small transformer (`oe.text-vlm`, eqs. 1, 9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.config.ranges import Size
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Encoder, EncoderConfig
from wamkit.contract.types import Observation, WindowSpec
from wamkit.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def import_tokenizers() -> Any:
    """Import the module `tokenizers`; raises :class:`MissingExtraError` when it is not installed."""
    try:
        import tokenizers
    except ImportError as error:
        raise MissingExtraError("tokenizers is not installed: pip install 'wamkit[text]'.") from error
    return tokenizers


def train_bpe(texts: Sequence[str], vocabulary: int) -> str:
    """Train a byte-level BPE tokenizer (Sennrich et al. 2016) and return its JSON.

    Args:
        texts: training corpus.
        vocabulary: largest number of pieces. The 256 bytes are always among them, so that every text can be encoded.

    Raises:
        ConfigError: ``vocabulary`` is below 256.
        MissingExtraError: `tokenizers` is not installed.
    """
    if vocabulary < 256:
        raise ConfigError(f"vocabulary = {vocabulary}: must be at least 256, because all bytes are pieces")
    tokenizers = import_tokenizers()
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    model.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=sorted(alphabet), show_progress=False
    )
    model.train_from_iterator(texts, trainer)
    return str(model.to_str(pretty=False))


def read_vocabulary(path: str) -> Tokenizer:
    """Load the tokenizer at ``path``, or the one that comes with the package when it is empty.

    Raises:
        ConfigError: there is no file at ``path``.
        MissingExtraError: `tokenizers` is not installed.
    """
    tokenizers = import_tokenizers()
    if not path:
        text = resources.files("wamkit.encoders").joinpath("instruction_bpe.json").read_text("utf-8")
        return tokenizers.Tokenizer.from_str(text)
    if not Path(path).is_file():
        raise ConfigError(
            f"encoder 'instruction_bpe': no vocabulary at {path!r}. Train one with "
            f"wamkit.encoders.train_bpe(texts, size) and write its result there, or leave `vocabulary` empty."
        )
    return tokenizers.Tokenizer.from_file(path)


@EncoderConfig.register_subclass("instruction_bpe")
@dataclass(frozen=True)
class InstructionBPEConfig(EncoderConfig):
    """Small transformer over the byte-pair pieces of the instruction (Sennrich et al. 2016; Vaswani et al. 2017).

    Attributes:
        vocabulary: JSON file of a byte-level BPE tokenizer, written by :func:`train_bpe`; empty for the one that comes
            with the package, trained on the instructions of the embedded benchmark.
        length: longest instruction in pieces; the rest is cut off.
        hidden: features per piece.
        heads: number of attention heads.
        layers: number of transformer layers.
    """

    packages: ClassVar[tuple[str, ...]] = ("text",)
    vocabulary: str = ""
    length: Size = 24
    hidden: Size = 64
    heads: Size = 4
    layers: Size = 2

    @override
    def build(self, data: DataSpec, window: WindowSpec, width: int) -> InstructionBPEEncoder:
        """Build; raises :class:`ConfigError` when the vocabulary is missing or the heads do not divide ``hidden``."""
        if self.hidden % self.heads:
            raise ConfigError(
                f"encoder 'instruction_bpe': {self.heads} heads do not divide hidden = {self.hidden}"
            )
        return InstructionBPEEncoder(self, read_vocabulary(self.vocabulary), width)


@final
class InstructionBPEEncoder(Encoder):
    """Pieces as tokens, N = ``length`` with padding; every distinct instruction of a batch is encoded once."""

    def __init__(self, config: InstructionBPEConfig, vocabulary: Tokenizer, width: int) -> None:
        super().__init__()
        self.config, self.vocabulary = config, vocabulary
        h = config.hidden
        self.embed = nn.Embedding(vocabulary.get_vocab_size(), h)
        self.position = nn.Parameter(torch.randn(config.length, h) * 0.02)
        layer = nn.TransformerEncoderLayer(
            h, config.heads, 4 * h, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.project = nn.Sequential(nn.LayerNorm(h), nn.Linear(h, width))
        self.kind = nn.Parameter(torch.randn(width) * 0.02)

    def pieces(self, text: str) -> list[int]:
        """Ids of the pieces of a text; an empty text has one piece too, a space."""
        return self.vocabulary.encode(text).ids or self.vocabulary.encode(" ").ids

    @override
    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        distinct = sorted(set(observation.task))
        row = torch.tensor([distinct.index(text) for text in observation.task], device=self.kind.device)
        ids = torch.zeros(len(distinct), self.config.length, dtype=torch.long)
        pad = torch.ones(len(distinct), self.config.length, dtype=torch.bool)
        for i, text in enumerate(distinct):
            pieces = self.pieces(text)[: self.config.length]
            ids[i, : len(pieces)], pad[i, : len(pieces)] = torch.tensor(pieces), False
        ids, pad = ids.to(self.kind.device), pad.to(self.kind.device)
        hidden = self.layers(self.embed(ids) + self.position, src_key_padding_mask=pad)
        return (self.project(hidden) + self.kind)[row], pad[row]
