"""Texts that a design writes, beside what the demonstrations say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch

from wamkit.contract.types import Batch, Budget
from wamkit.design import Design


@final
class TextAnswers:
    """Counts how often a design writes exactly the text of the data, stream by stream.

    Args:
        design: design in evaluation mode; it may write no text at all.
        budget: budget of every call.
    """

    def __init__(self, design: Design, budget: Budget) -> None:
        self._design, self._budget = design, budget
        self._pairs: dict[str, list[tuple[str, str]]] = {name: [] for name in design.texts}

    @torch.no_grad()
    def add(self, batch: Batch, seeds: Sequence[int]) -> None:
        """Write the texts of a batch of windows and compare them with the data's."""
        if not self._pairs:
            return
        design, observation = self._design, batch.acting(self._design.window)
        context = design.encode_context(observation)
        carry = design.observe(observation, design.initial_state(observation.batch_size), context)
        sampled = design.sample(
            observation, list(self._pairs), seeds=seeds, budget=self._budget, carry=carry, context=context
        )
        for name, pairs in self._pairs.items():
            text = design.texts[name]
            pairs += zip(text.decode(sampled.values[name]), text.of(batch.observation), strict=True)

    def notes(self) -> list[str]:
        """One remark per stream: the share of texts that are right, and the first that is not."""
        notes = []
        for name, pairs in self._pairs.items():
            wrong = [(said, true) for said, true in pairs if said != true]
            note = f"text {name!r}: {len(pairs) - len(wrong)} of {len(pairs)} windows say what the data say"
            example = f", such as {pairs[0][0]!r}" if pairs and not wrong else ""
            notes.append(note + (f"; {wrong[0][0]!r} stands for {wrong[0][1]!r}" if wrong else example))
        return notes
