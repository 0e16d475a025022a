"""Grammars of streams of text: which sequences of token ids may be written, decided one token at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wamkit.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Grammar:
    """Deterministic automaton over token ids, state 0 its start.

    A text ends with the end token or with the last step of its stream; after the end token, nothing but end tokens
    follow.

    Attributes:
        vocabulary: number of token ids.
        end: id of the end token.
        moves: per state, token id -> next state; empty for a grammar that allows any tokens (:attr:`free`).
        final: states in which a text may end.
    """

    vocabulary: int
    end: int
    moves: tuple[Mapping[int, int], ...] = ()
    final: frozenset[int] = frozenset()

    @property
    def free(self) -> bool:
        """True when any tokens may follow each other."""
        return not self.moves

    @classmethod
    def of_sentences(cls, sentences: Sequence[Sequence[int]], vocabulary: int, end: int) -> Grammar:
        """Build the grammar that allows exactly these sentences, each a sequence of ids without the end token."""
        moves: list[dict[int, int]] = [{}]
        final = set()
        for sentence in sentences:
            state = 0
            for token in sentence:
                if token not in moves[state]:
                    moves[state][token] = len(moves)
                    moves.append({})
                state = moves[state][token]
            final.add(state)
        return cls(vocabulary, end, tuple(moves), frozenset(final))

    def state(self, ids: Sequence[int]) -> int | None:
        """State after ``ids``, without end tokens; None when the grammar does not allow them."""
        state: int | None = 0
        for token in () if self.free else ids:
            state = None if state is None else self.moves[state].get(token)
        return state

    def accepts(self, ids: Sequence[int]) -> bool:
        """True for the ids of a whole text: its tokens, then end tokens or nothing."""
        text = list(ids[: list(ids).index(self.end)]) if self.end in ids else list(ids)
        if any(token != self.end for token in ids[len(text) :]):
            return False
        return self.free or self.state(text) in self.final

    def allowed(self, written: Tensor) -> Tensor:
        """Mask (B, vocabulary) bool of the tokens that may follow ``written`` (B, n) ids, which it allows itself."""
        mask = torch.zeros(len(written), self.vocabulary, dtype=torch.bool)
        for row, ids in zip(mask, written.tolist(), strict=True):
            if self.end in ids:
                row[self.end] = True
            elif self.free:
                row[:] = True
            else:
                state = self.state(ids)
                if state is None:
                    raise ConfigError(f"grammar: the ids {ids} are the beginning of no text that it allows")
                row[list(self.moves[state])] = True
                row[self.end] = state in self.final
        return mask.to(written.device)

    def settled(self, ids: Tensor) -> Tensor:
        """Ids (B, T, 1) with end tokens in place of whatever follows the first one."""
        ended = (ids == self.end).cumsum(dim=1) > 0
        return torch.where(ended, self.end, ids)
