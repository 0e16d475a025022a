"""Streams of text: words about the task that a design writes, such as the subtask that comes next (group J).

A text is neither a future nor an action. It is made of what a dataset knows about a frame, and its tokens are those of
any tokenizer of the `tokenizers` library, followed by an end token.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from wamkit.config.ranges import Size, Word, Words
from wamkit.config.values import Config
from wamkit.contract.data import DataSpec
from wamkit.contract.grammar import Grammar
from wamkit.contract.streams import StreamSpec, Target
from wamkit.contract.types import Observation
from wamkit.design.templates import PARTS, Template, check_fields, fields_of
from wamkit.encoders.instruction_bpe import read_vocabulary
from wamkit.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MOST_SENTENCES = 65536


@dataclass(frozen=True)
class TextConfig(Config):
    """One stream of text.

    Attributes:
        template: text of a frame. ``{task}`` is the instruction, ``{part}`` the number of the task's next milestone,
            from 1, ``{parts}`` the number of its milestones, ``{NAME}`` the name of an extra's value (see ``names``).
        names: name of an extra with one whole number per frame -> the words for its values 0, 1, ...
        length: steps of the stream, and so the longest text in tokens.
        tokenizer: path of a ``tokenizer.json`` of the `tokenizers` library; empty for the one of ``instruction_bpe``.
        sentences: all texts that may be written, exactly; empty for any. ``{SLOT}`` in one stands for every entry of
            ``slots``.
        slots: slot name -> what may stand in it.
    """

    template: str = "{task}"
    names: dict[str, Words] = field(default_factory=dict)
    length: Size = 16
    tokenizer: str = ""
    sentences: tuple[Word, ...] = ()
    slots: dict[str, Words] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self.template, ("task", *PARTS, *self.names), "text: `template`")
        for sentence in self.sentences:
            for name in fields_of(sentence, "text: `sentences`"):
                if name not in self.slots:
                    raise ConfigError(
                        f"text: sentence {sentence!r} has the slot {name!r}. {did_you_mean(name, self.slots)}"
                    )

    def build(self, name: str, data: DataSpec) -> Text:
        """Build the text of stream ``name``.

        Raises:
            ConfigError: an extra is missing or is not one number per frame, the tokenizer cannot be read, or a
                sentence is too long or changes when it is cut into tokens.
            MissingExtraError: `tokenizers` is not installed.
        """
        template = Template(self.template, self.names, f"text {name!r}", data)
        return Text(name, self, template, read_vocabulary(self.tokenizer))

    def every_sentence(self) -> list[str]:
        """All sentences, with every entry in every slot; raises :class:`ConfigError` when there are too many."""
        found: dict[str, None] = {}
        for sentence in self.sentences:
            used = fields_of(sentence, "text: `sentences`")
            choices = [self.slots[name] for name in used]
            if math.prod(len(c) for c in choices) + len(found) > MOST_SENTENCES:
                raise ConfigError(
                    f"text: sentence {sentence!r} makes more than {MOST_SENTENCES} sentences. Shorten its slots, or "
                    f"leave `sentences` empty."
                )
            for words in itertools.product(*choices):
                found[sentence.format(**dict(zip(used, words, strict=True)))] = None
        return list(found)


class Text:
    """Text of a frame, and its tokens.

    Attributes:
        extras: extras of an observation that its target is made of; needed in training only.
        grammar: texts that may be written.
    """

    def __init__(self, name: str, config: TextConfig, template: Template, tokenizer: Tokenizer) -> None:
        self.name = name
        self.config = config
        self.extras = template.extras
        self._template = template
        self._tokenizer = tokenizer
        self.end: int = tokenizer.get_vocab_size()
        self.grammar = Grammar(self.end + 1, self.end)
        sentences = config.every_sentence()
        if sentences:
            tokens = [self._sentence(sentence) for sentence in sentences]
            self.grammar = Grammar.of_sentences(tokens, self.end + 1, self.end)

    def _sentence(self, sentence: str) -> list[int]:
        """Tokens of a sentence of the grammar; raises :class:`ConfigError` when it cannot be written."""
        ids = self._pieces(sentence)
        if len(ids) > self.config.length:
            raise ConfigError(
                f"text {self.name!r}: sentence {sentence!r} has {len(ids)} tokens, more than `length` "
                f"{self.config.length}. Set `length` to {len(ids)} or more."
            )
        if self._words(ids) != sentence:
            raise ConfigError(
                f"text {self.name!r}: the tokenizer reads sentence {sentence!r} back as {self._words(ids)!r}. Write it "
                f"like that, or choose another tokenizer."
            )
        return ids

    def _pieces(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _words(self, ids: Sequence[int]) -> str:
        # A tokenizer that marks the beginnings of words puts a space before the first one.
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False)).strip()

    def spec(self) -> StreamSpec:
        """Spec of the stream: one token id per step."""
        shape = (self.config.length, 1, 1)
        return StreamSpec(self.name, "text", *shape, vocabulary=self.grammar.vocabulary, grammar=self.grammar)

    def of(self, observation: Observation) -> list[str]:
        """Text of each of the B rows at the last step of ``observation``."""
        return self._template.of(observation)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Ids (B, T, 1) int64 of B texts, filled up with the end token.

        Raises:
            DataError: a text is longer than the stream, or none of the grammar's sentences.
        """
        rows = []
        for text in texts:
            ids = self._pieces(text)
            if len(ids) > self.config.length:
                raise DataError(
                    f"text {self.name!r}: {text!r} has {len(ids)} tokens, more than `length` {self.config.length}. Set "
                    f"`length` to {len(ids)} or more."
                )
            if not self.grammar.accepts(ids):
                raise DataError(
                    f"text {self.name!r}: {text!r} is none of the sentences that may be written. Add it to `sentences`."
                )
            rows.append([*ids, *[self.end] * (self.config.length - len(ids))])
        return torch.tensor(rows, dtype=torch.long)[..., None]

    def decode(self, ids: Tensor) -> tuple[str, ...]:
        """Texts of ids (B, T, 1), each up to its end token."""
        rows = ids[..., 0].tolist()
        return tuple(self._words(row[: row.index(self.end)] if self.end in row else row) for row in rows)

    def target(self, observation: Observation) -> Target:
        """Ground truth of the stream; end tokens after the first one are padding."""
        ids = self.encode(self.of(observation)).to(observation.state.device)
        ended = ids[..., 0] == self.end
        return Target(ids, ended & (ended.cumsum(dim=1) > 1))


def build_texts(texts: Mapping[str, TextConfig], data: DataSpec) -> dict[str, Text]:
    """Build the texts of all streams of text."""
    return {name: text.build(name, data) for name, text in texts.items()}
